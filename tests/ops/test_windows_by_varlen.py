"""ops/windows_by_varlen.py: where sequences begin and end; on CUDA the kernel against blocks of matrices."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from eventide.ops.windows_by_matrices import windows_by_matrices
from eventide.ops.windows_by_varlen import can_use_varlen, sequence_bounds, windows_by_varlen

CPU = torch.device("cpu")


def mask(length: int, ends: list[int]) -> Tensor:
    return torch.arange(length) < torch.tensor(ends)[:, None]


@pytest.mark.parametrize(
    ("label", "batch", "length", "ends", "expected"),
    [
        ("one sequence", 1, 5, None, [0, 5]),
        ("three sequences", 3, 5, None, [0, 5, 10, 15]),
        ("length 1", 2, 1, None, [0, 1, 2]),
        ("ragged", 3, 5, [5, 3, 1], [0, 5, 5, 8, 10, 11, 15]),
        ("a mask that hides nothing", 2, 4, [4, 4], [0, 4, 4, 8, 8]),
        ("nothing valid", 2, 4, [0, 4], [0, 0, 4, 8, 8]),
        ("one sequence, padded", 1, 9, [2], [0, 2, 9]),
    ],
)
def test_bounds(label: str, batch: int, length: int, ends: list[int] | None, expected: list[int]) -> None:
    found = sequence_bounds(batch, length, None if ends is None else mask(length, ends), CPU)
    assert found.dtype == torch.int32
    assert found.tolist() == expected


@pytest.mark.parametrize("ends", [[7, 3, 1], [7, 7, 7], [1, 1, 7]], ids=str)
def test_bounds_are_those_of_valid_and_padding_by_turns(ends: list[int]) -> None:
    bounds = sequence_bounds(3, 7, mask(7, ends), CPU).tolist()
    assert bounds == sorted(bounds)
    parts = [torch.arange(start, stop) for start, stop in pairwise(bounds)]
    assert torch.cat(parts).tolist() == list(range(21))
    assert torch.equal(torch.cat(parts[0::2]), mask(7, ends).flatten().nonzero().flatten())


def test_bounds_read_nothing_on_the_host() -> None:
    meta = torch.device("meta")
    valid = torch.empty(3, 7, dtype=torch.bool, device=meta)
    assert sequence_bounds(3, 7, valid, meta).shape == (7,)
    assert sequence_bounds(3, 7, None, meta).shape == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_not_on_the_cpu(dtype: torch.dtype) -> None:
    assert not can_use_varlen(torch.zeros(1, 4, 32, dtype=dtype), heads=4)


@pytest.mark.cuda
@pytest.mark.parametrize("ragged", [False, True], ids=["all valid", "ragged"])
@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize("half", [1, 4, 9])
@pytest.mark.parametrize("length", [1, 8, 9, 57, 1000])
def test_against_matrices_on_cuda(length: int, half: int, ratio: int, ragged: bool) -> None:
    """Outputs and gradients in bfloat16 against float32 on the same card."""
    heads, width = 4, 16
    generator = torch.Generator().manual_seed(length)
    sizes = (heads, heads // ratio, heads // ratio, heads)
    q, k, v, direction = (torch.randn(2, length, size * width, generator=generator).bfloat16().cuda() for size in sizes)
    if not can_use_varlen(q, heads):
        pytest.skip("this card or PyTorch has no such kernel")
    valid = mask(length, [length, max(length // 2, 1)]).cuda()
    given = valid if ragged else None
    kept = valid if ragged else torch.ones_like(valid)
    results = []
    for kernel, dtype in ((windows_by_varlen, torch.bfloat16), (windows_by_matrices, torch.float32)):
        tensors = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        out = kernel(*tensors, heads=heads, half=half, valid=given)
        assert out.dtype == dtype
        grads = torch.autograd.grad(out[kept], tensors, direction[kept].to(dtype))
        results.append([x.float() for x in (out[kept], *grads)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= 0.03 * theirs.norm() + 1e-6
