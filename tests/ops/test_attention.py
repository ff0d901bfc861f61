"""ops/attention.py: every kernel against an explicit softmax over all pairs in float64, and against one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from eventide.ops.attention import attention, full_by_matrices, full_by_sdpa
from eventide.ops.windows_by_matrices import windows_by_matrices
from eventide.ops.windows_by_sdpa import windows_by_flash_on_cpu, windows_by_sdpa
from tests import references

HEADS, WIDTH = 4, 4
WINDOWS: dict[str, Callable[..., Tensor]] = {
    "matrices": windows_by_matrices,
    "sdpa": windows_by_sdpa,
    "flash on CPU": windows_by_flash_on_cpu,
}
FULL: dict[str, Callable[..., Tensor]] = {"matrices": full_by_matrices, "sdpa": full_by_sdpa}


def lengths(half: int | None) -> list[int]:
    """1, the window less one, the window, odd, 1000."""
    window = 33 if half is None else 2 * half + 1
    return sorted({1, window - 1, window, 57, 1000})


def cases() -> Iterator[object]:
    """Every window, length, ratio of heads and mask; the slowest but for one of each window are marked."""
    for half, ratio, ragged in product((None, 1, 4, 9), (1, 2, 4), (False, True)):
        for length in lengths(half):
            marks = [pytest.mark.slow] if length == 1000 and not (ratio == 2 and ragged) else []
            label = f"half {half}, T {length}, ratio {ratio}, {'ragged' if ragged else 'all valid'}"
            yield pytest.param(half, length, ratio, ragged, marks=marks, id=label)


KERNELS = [(half, name) for half in (None, 4) for name in (FULL if half is None else WINDOWS)]


def kernels(half: int | None) -> dict[str, Callable[..., Tensor]]:
    """Everything that can compute this, by name."""
    if half is None:
        return {
            **FULL,
            "chosen, fused": lambda *x, **k: attention(*x, **k, fused=True),
            "chosen, plain": lambda *x, **k: attention(*x, **k, fused=False),
        }
    named = {name: _windowed(kernel, half) for name, kernel in WINDOWS.items()}
    named["chosen, fused"] = lambda *x, **k: attention(*x, **k, half=half, fused=True)
    named["chosen, plain"] = lambda *x, **k: attention(*x, **k, half=half, fused=False)
    return named


def _windowed(kernel: Callable[..., Tensor], half: int) -> Callable[..., Tensor]:
    return lambda *x, **k: kernel(*x, **k, half=half)


def draw(length: int, ratio: int, batch: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    """q, k, v float64 with numbers that float32 has; the direction of a gradient; ragged valid keys."""
    generator = torch.Generator().manual_seed(10 * length + ratio)
    sizes = (HEADS, HEADS // ratio, HEADS // ratio, HEADS)
    made = [torch.randn(batch, length, size * WIDTH, generator=generator).double() for size in sizes]
    ends = torch.tensor([length, *[max(length * 2 // 3, 1)] * (batch - 1)])
    return made[:3], made[3], torch.arange(length) < ends[:, None]


@pytest.mark.parametrize(("half", "length", "ratio", "ragged"), list(cases()))
def test_against_all_pairs(half: int | None, length: int, ratio: int, ragged: bool) -> None:
    inputs, direction, valid = draw(length, ratio, batch=2 if ragged else 1)
    mask = valid if ragged else None
    exact = [x.requires_grad_() for x in inputs]
    expected = references.attention(*exact, heads=HEADS, half=half, valid=mask)
    meaningful = valid if ragged else torch.ones_like(valid)
    wanted = references.gradients(expected[meaningful], direction[meaningful], exact)
    for name, kernel in kernels(half).items():
        ours = [x.detach().float().requires_grad_() for x in inputs]
        found = kernel(*ours, heads=HEADS, valid=mask)
        assert found.dtype == torch.float32
        torch.testing.assert_close(
            found[meaningful].double(), expected[meaningful], rtol=1e-5, atol=1e-5, msg=f"{name}: {{}}".format
        )
        given = references.gradients(found[meaningful], direction[meaningful], ours)
        references.assert_gradients_close(given, wanted, lambda index, name=name: f"{name}, {'qkv'[index]}")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("ratio", [1, 4])
@pytest.mark.parametrize(("half", "length"), [(32, 1), (32, 57), (55, 57), (56, 57), (57, 57), (10**9, 1), (10**9, 57)])
def test_windows_wider_than_the_sequence(half: int, length: int, ratio: int, fused: bool) -> None:
    """They cost what the sequence costs: blocks of a window of a thousand million would fit into no memory."""
    inputs, direction, valid = draw(length, ratio)
    exact = [x.requires_grad_() for x in inputs]
    expected = references.attention(*exact, heads=HEADS, half=half, valid=valid)
    found = attention(*exact, heads=HEADS, half=half, valid=valid, fused=fused)
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-10, atol=1e-10)
    given, wanted = (references.gradients(x[valid], direction[valid], exact) for x in (found, expected))
    for ours, theirs in zip(given, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("half", "length"), [(1, 1), (4, 57), (9, 100), (70, 57), (20000, 57)])
def test_bias_by_distance(half: int, length: int, fused: bool) -> None:
    (q, k, v), _, valid = draw(length, 1)
    bias = torch.randn(HEADS, 2 * half + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = references.attention(q, k, v, heads=HEADS, half=half, valid=valid, bias=bias)
    found = attention(q, k, v, heads=HEADS, half=half, valid=valid, bias=bias, fused=fused)
    torch.testing.assert_close(found[valid], expected[valid], rtol=1e-10, atol=1e-10)
    if half > length:
        return  # too much for the kernel itself
    other = windows_by_sdpa(q, k, v, heads=HEADS, half=half, valid=valid, bias=bias)
    torch.testing.assert_close(other[valid], expected[valid], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize(("half", "name"), KERNELS)
def test_bfloat16_is_close_to_float32(half: int | None, name: str, ratio: int) -> None:
    inputs, direction, valid = draw(100, ratio)
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        low = [x.bfloat16().to(dtype).requires_grad_() for x in inputs]
        out = kernels(half)[name](*low, heads=HEADS, valid=valid)
        assert out.dtype == dtype
        grads = references.gradients(out[valid], direction[valid], low)
        assert all(x.dtype == dtype for x in grads)
        results.append([x.float() for x in (out[valid], *grads)])
    for low_result, full_result in zip(*results, strict=True):
        assert (low_result - full_result).norm() <= 0.03 * full_result.norm()


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize(("half", "name"), KERNELS)
def test_inputs_that_are_views(half: int | None, name: str, ratio: int) -> None:
    """Channels-first storage, a slice of a wider tensor, an expanded batch: the same as a copy of them."""
    inputs, _, valid = draw(64, ratio)
    views = {
        "transposed": [x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs],
        "sliced": [torch.cat((x, x), dim=2)[..., : x.shape[2]] for x in inputs],
        "every second": [torch.stack((x, x), dim=2).flatten(1, 2)[:, ::2] for x in inputs],
        "expanded": [x[:1].expand(2, -1, -1) for x in inputs],
    }
    for kind, viewed in views.items():
        tensors = [x.detach().requires_grad_() for x in viewed]
        copies = [x.detach().contiguous().requires_grad_() for x in viewed]
        found, expected = (kernels(half)[name](*x, heads=HEADS, valid=valid) for x in (tensors, copies))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, msg=f"{kind}: {{}}".format)
        direction = torch.ones_like(found).transpose(0, 1).contiguous().transpose(0, 1)  # gradients are views as well
        pairs = (references.gradients(*x) for x in ((found, direction, tensors), (expected, direction, copies)))
        for ours, theirs in zip(*pairs, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, msg=f"{kind}: {{}}".format)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("half", "name"), KERNELS)
def test_rows_without_any_valid_key_are_finite(half: int | None, name: str, dtype: torch.dtype) -> None:
    inputs, direction, valid = draw(57, 2)
    q, k, v = (x.to(dtype).requires_grad_() for x in inputs)
    out = kernels(half)[name](q, k, v, heads=HEADS, valid=torch.zeros_like(valid))
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in references.gradients(out, direction, (q, k, v)))


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize(("half", "name"), KERNELS)
def test_gradients_by_finite_differences(half: int | None, name: str, ratio: int) -> None:
    (q, k, v), _, _ = draw(5, ratio)
    inputs = [x[..., : max(1, x.shape[2] // 2)].contiguous().requires_grad_() for x in (q, k, v)]
    kernel = kernels(half)[name]
    assert torch.autograd.gradcheck(lambda *x: kernel(*x, heads=HEADS // 2, valid=None), inputs)


@pytest.mark.parametrize(("half", "fused", "ragged"), list(product([None, 4], [False, True], [False, True])))
def test_nothing_is_read_on_the_host(half: int | None, fused: bool, ragged: bool) -> None:
    q, k, v = (torch.empty(2, 57, heads * WIDTH, device="meta", requires_grad=True) for heads in (4, 2, 2))
    valid = torch.empty(2, 57, dtype=torch.bool, device="meta") if ragged else None
    out = attention(q, k, v, heads=4, half=half, valid=valid, fused=fused)
    assert out.shape == q.shape
    out.sum().backward()
    assert k.grad is not None
    assert k.grad.shape == k.shape
