"""ops/windows_by_sdpa.py: both ways through PyTorch's kernels in float64; what else the compiler and autograd need."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eventide.ops.windows_by_sdpa import has_flash_on_cpu, windows_by_flash_on_cpu, windows_by_sdpa
from tests import references

HEADS, WIDTH = 4, 4
Kernel = Callable[..., Tensor]
KERNELS: dict[str, Kernel] = {"sdpa": windows_by_sdpa, "flash on CPU": windows_by_flash_on_cpu}


@pytest.fixture(params=KERNELS, ids=str)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return KERNELS[request.param]


def draw(length: int, ratio: int, batch: int = 3) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    sizes = (HEADS, HEADS // ratio, HEADS // ratio, HEADS)
    made = [torch.randn(batch, length, size * WIDTH, generator=generator, dtype=torch.float64) for size in sizes]
    ends = torch.tensor([length, (length + 1) // 2, 1][:batch])
    return made[:3], made[3], torch.arange(length) < ends[:, None]


def test_this_pytorch_has_the_kernel() -> None:
    """The version that the project is tested with; on others the other way is taken."""
    assert has_flash_on_cpu()


@pytest.mark.parametrize("ragged", [False, True], ids=["all valid", "ragged"])
@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize(
    ("half", "length"), [(h, n) for h in (1, 4, 9, 40) for n in sorted({1, 2, h, 31, 32, 33, 64, 100})]
)
def test_values_and_gradients(kernel: Kernel, half: int, length: int, ratio: int, ragged: bool) -> None:
    inputs, direction, valid = draw(length, ratio)
    tensors = [x.requires_grad_() for x in inputs]
    mask = valid if ragged else None
    found = kernel(*tensors, heads=HEADS, half=half, valid=mask)
    expected = references.attention(*tensors, heads=HEADS, half=half, valid=mask)
    kept = valid if ragged else torch.ones_like(valid)
    torch.testing.assert_close(found[kept], expected[kept], rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(
        *(references.gradients(out[kept], direction[kept], tensors) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("hole", [slice(0, 5), slice(10, 12), slice(30, 70), slice(95, 100)], ids=str)
def test_holes_in_the_mask(kernel: Kernel, hole: slice) -> None:
    inputs, _, _ = draw(100, 2)
    valid = torch.ones(3, 100, dtype=torch.bool)
    valid[1, hole] = False
    found = kernel(*inputs, heads=HEADS, half=9, valid=valid)
    expected = references.attention(*inputs, heads=HEADS, half=9, valid=valid)
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-10, atol=1e-10)


def test_padding_never_reaches_valid_rows(kernel: Kernel) -> None:
    inputs, _, valid = draw(100, 2)
    before = kernel(*inputs, heads=HEADS, half=4, valid=valid)
    after = kernel(*(x.masked_fill(~valid.unsqueeze(-1), 1e4) for x in inputs), heads=HEADS, half=4, valid=valid)
    assert torch.equal(before[valid], after[valid])


def test_keys_one_step_beyond_the_window_do_not_count(kernel: Kernel) -> None:
    (q, k, v), _, _ = draw(100, 1, batch=1)
    changed = v.clone()
    changed[:, 50] += 1.0
    moved = kernel(q, k, changed, heads=HEADS, half=4) - kernel(q, k, v, heads=HEADS, half=4)
    assert moved.abs().sum(dim=2)[0].nonzero().flatten().tolist() == list(range(46, 55))


def test_sequences_of_a_batch_do_not_meet(kernel: Kernel) -> None:
    inputs, _, _ = draw(64, 2)
    together = kernel(*inputs, heads=HEADS, half=9)
    for row in range(3):
        alone = kernel(*(x[row : row + 1] for x in inputs), heads=HEADS, half=9)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=1e-12)
