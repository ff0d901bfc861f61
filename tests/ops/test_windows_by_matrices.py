"""ops/windows_by_matrices.py: against a masked softmax over all pairs, with gradients, lengths, windows and masks."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from eventide.ops.windows_by_matrices import windows_by_matrices

HALVES, HEADS, WIDTH = (1, 4, 9, 40), (1, 3), 4
LENGTHS = {half: sorted({1, 2, half, 2 * half + 1, 31, 32, 33, 100}) for half in HALVES}
CASES = [(half, length, heads) for half, heads in product(HALVES, HEADS) for length in LENGTHS[half]]


def reference(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None, bias: Tensor | None
) -> Tensor:
    """All pairs of positions, those too far apart or not valid so low that their weight is 0; one head at a time."""
    length, width = q.shape[1], q.shape[2] // heads
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    allowed = (distance.abs() <= half).expand(q.shape[0], -1, -1)
    if valid is not None:
        allowed = allowed & valid[:, None, :]
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
        if bias is not None:
            scores = scores + bias[head, (distance + half).clamp(0, 2 * half)]
        out.append(scores.masked_fill(~allowed, -1e30).softmax(dim=-1) @ v[..., part])
    return torch.cat(out, dim=-1)


def draw(half: int, length: int, heads: int, batch: int = 3) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """q, k, v; the direction of a gradient; ragged valid keys (rows full, half and 1 long); bias."""
    generator = torch.Generator().manual_seed(1000 * half + length)
    q, k, v, direction = torch.randn(4, batch, length, heads * WIDTH, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([length, (length + 1) // 2, 1])
    bias = torch.randn(heads, 2 * half + 1, generator=generator, dtype=torch.float64)
    return [q, k, v], direction, torch.arange(length) < lengths[:, None], bias


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("ragged", [False, True], ids=["all valid", "ragged"])
@pytest.mark.parametrize(("half", "length", "heads"), CASES)
def test_values_and_gradients(half: int, length: int, heads: int, ragged: bool, with_bias: bool) -> None:
    inputs, direction, valid, bias = draw(half, length, heads)
    wanted = [tensor.requires_grad_() for tensor in ([*inputs, bias] if with_bias else inputs)]
    mask, added = (valid if ragged else None), (bias if with_bias else None)
    found = windows_by_matrices(*inputs, heads=heads, half=half, valid=mask, bias=added)
    expected = reference(*inputs, heads=heads, half=half, valid=mask, bias=added)
    # Queries in the padding may see no key: they mean nothing, and nothing comes back from them.
    meaningful = valid if ragged else torch.ones_like(valid)
    torch.testing.assert_close(found[meaningful], expected[meaningful], rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(out[meaningful], wanted, direction[meaningful]) for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("hole", [slice(0, 5), slice(10, 12), slice(30, 70), slice(95, 100)])
def test_holes_in_the_mask(hole: slice) -> None:
    inputs, _, _, bias = draw(9, 100, 3)
    valid = torch.ones(3, 100, dtype=torch.bool)
    valid[1, hole] = False
    found = windows_by_matrices(*inputs, heads=3, half=9, valid=valid, bias=bias)
    expected = reference(*inputs, heads=3, half=9, valid=valid, bias=bias)
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 33, 100])
def test_rows_without_any_valid_key_are_finite(length: int, dtype: torch.dtype) -> None:
    inputs, direction, _, _ = draw(4, length, 3)
    q, k, v = (tensor.to(dtype).requires_grad_() for tensor in inputs)
    out = windows_by_matrices(q, k, v, heads=3, half=4, valid=torch.zeros(3, length, dtype=torch.bool))
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(out, (q, k, v), direction.to(dtype)))


def test_padding_never_reaches_valid_rows() -> None:
    (q, k, v), _, valid, _ = draw(4, 100, 3)
    before = windows_by_matrices(q, k, v, heads=3, half=4, valid=valid)
    filled = [tensor.masked_fill(~valid.unsqueeze(-1), 1e4) for tensor in (q, k, v)]
    after = windows_by_matrices(*filled, heads=3, half=4, valid=valid)
    assert torch.equal(before[valid], after[valid])


def test_keys_one_step_beyond_the_window_do_not_count() -> None:
    (q, k, v), _, _, _ = draw(4, 100, 1, batch=1)
    q, k, v = q[:1], k[:1], v[:1]
    changed = v.clone()
    changed[:, 50] += 1.0
    moved = (windows_by_matrices(q, k, changed, heads=1, half=4) - windows_by_matrices(q, k, v, heads=1, half=4)).abs()
    assert moved.sum(dim=2)[0].nonzero().flatten().tolist() == list(range(46, 55))


def test_inputs_that_are_views() -> None:
    (q, k, v), _, valid, bias = draw(4, 64, 3)
    views = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in (q, k, v)]
    found = windows_by_matrices(*views, heads=3, half=4, valid=valid, bias=bias)
    assert torch.equal(found, windows_by_matrices(q, k, v, heads=3, half=4, valid=valid, bias=bias))


def test_gradients_by_finite_differences() -> None:
    inputs, _, _, bias = draw(1, 5, 1, batch=3)
    q, k, v = (tensor[:1].clone().requires_grad_() for tensor in inputs)

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return windows_by_matrices(q, k, v, heads=1, half=1, bias=bias)

    assert torch.autograd.gradcheck(attend, (q, k, v, bias.requires_grad_()))


@pytest.mark.parametrize("half", [4, 40])
def test_bfloat16_is_close_to_float32(half: int) -> None:
    inputs, direction, valid, bias = draw(half, 100, 3)
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        low = [tensor.to(torch.bfloat16).to(dtype).requires_grad_() for tensor in inputs]
        table = bias.float().requires_grad_()  # parameters stay float32 under mixed precision
        out = windows_by_matrices(*low, heads=3, half=half, valid=valid, bias=table)
        assert out.dtype == dtype
        gradients = torch.autograd.grad(out[valid], [*low, table], direction[valid].to(dtype))
        assert [x.dtype for x in gradients] == [dtype] * 3 + [torch.float32]
        results.append([out[valid].float(), *(x.float() for x in gradients)])
    for low, full in zip(*results, strict=True):
        assert (low - full).norm() <= 0.03 * full.norm()


@pytest.mark.cuda
def test_mixed_precision_on_cuda() -> None:
    inputs, direction, valid, bias = draw(4, 100, 3)
    q, k, v, table = (tensor.cuda().requires_grad_() for tensor in (*(x.bfloat16() for x in inputs), bias.float()))
    with torch.autocast("cuda", torch.bfloat16):
        out = windows_by_matrices(q, k, v, heads=3, half=4, valid=valid.cuda(), bias=table)
    assert out.dtype == torch.bfloat16
    gradients = torch.autograd.grad(out, (q, k, v, table), direction.cuda().bfloat16())
    assert all(x.isfinite().all() for x in gradients)
    expected = reference(*(x.bfloat16().double() for x in inputs), heads=3, half=4, valid=valid, bias=bias)
    torch.testing.assert_close(out.cpu().double()[valid], expected[valid], rtol=0.05, atol=0.05)
