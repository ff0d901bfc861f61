"""ops/row_norm.py: both norms against plain formulas, in pieces and whole, with gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.ops import row_norm
from eventide.ops.row_norm import Statistics, normalise, normalise_backward, rms_norm
from tests import references

CHANNELS, EPS = 8, 1e-5
PIECE = 64  # rows: the smallest piece
ROWS = [1, 2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_norm, "CACHED_NUMBERS", 1)


def draw(*shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows, weight, bias, direction of the gradient; float64 with numbers that float32 has."""
    generator = torch.Generator().manual_seed(sum(shape))
    x, direction = torch.randn(2, *shape, generator=generator).double()
    weight, bias = torch.randn(2, shape[-1], generator=generator).double()
    return 3 * x + 1, weight, bias, direction


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("rows", ROWS)
def test_rms_norm(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    x, weight, _, direction = draw(2, rows, CHANNELS)
    exact = [t.requires_grad_() for t in (x, weight)]
    ours = [t.detach().to(dtype).requires_grad_() for t in exact]
    expected, found = references.rms_norm(*exact, EPS), rms_norm(*ours, EPS)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    references.assert_gradients_close(
        references.gradients(found, direction, ours), references.gradients(expected, direction, exact)
    )


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("with_bias", [False, True], ids=["rms", "layer"])
def test_forwards_and_backwards_by_hand(with_bias: bool, rows: int) -> None:
    x, weight, bias, direction = (t.requires_grad_() for t in draw(rows, CHANNELS))
    wanted = [x, weight, bias] if with_bias else [x, weight]
    expected = references.layer_norm(x, weight, bias, EPS) if with_bias else references.rms_norm(x, weight, EPS)
    added = bias.detach() if with_bias else None
    with torch.no_grad():
        found, statistics = normalise(x, weight, added, EPS)
        given = normalise_backward(direction, x, weight, added, statistics)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (statistics.mean is None) == (not with_bias)
    assert (given[2] is None) == (not with_bias)
    for ours, theirs in zip(given, references.gradients(expected, direction.detach(), wanted), strict=False):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(0, CHANNELS), (2, 0, CHANNELS), (0, 5, CHANNELS)], ids=str)
def test_no_rows(shape: tuple[int, ...]) -> None:
    x, weight = torch.zeros(shape, requires_grad=True), torch.ones(CHANNELS, requires_grad=True)
    out = rms_norm(x, weight, EPS)
    assert out.shape == shape
    for_x, for_weight = torch.autograd.grad(out, (x, weight), torch.zeros(shape))
    assert for_x.shape == shape
    assert (for_weight == 0).all()


def test_rows_of_zeros_are_finite() -> None:
    x = torch.zeros(3, CHANNELS, requires_grad=True)
    out = rms_norm(x, torch.ones(CHANNELS), EPS)
    assert (out == 0).all()
    (gradient,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("rows", [1, PIECE + 1])
def test_half_precision_is_normed_in_float32(rows: int) -> None:
    x, weight, _, direction = draw(2, rows, CHANNELS)
    low = x.bfloat16().requires_grad_()
    wide = weight.float().requires_grad_()  # parameters stay float32 under mixed precision
    out = rms_norm(low, wide, EPS)
    assert out.dtype == torch.bfloat16
    exact = [low.detach().float().requires_grad_(), wide.detach().clone().requires_grad_()]
    expected = rms_norm(*exact, EPS)
    torch.testing.assert_close(out.float(), expected, rtol=0.01, atol=0.01)
    found = torch.autograd.grad(out, (low, wide), direction.bfloat16())
    assert [t.dtype for t in found] == [torch.bfloat16, torch.float32]
    for ours, theirs in zip(found, torch.autograd.grad(expected, exact, direction.float()), strict=True):
        assert (ours.float() - theirs).norm() <= 0.02 * theirs.norm()


def test_views_and_gradients_that_are_views() -> None:
    x, weight, _, direction = draw(3, PIECE + 1, CHANNELS)
    expected = rms_norm(x.requires_grad_(), weight, EPS)
    (theirs,) = torch.autograd.grad(expected, x, direction)
    views = {
        "transposed": x.detach().transpose(1, 2).contiguous().transpose(1, 2),
        "sliced": torch.cat((x, x), dim=1).detach()[:, : PIECE + 1],
        "batch last": x.detach().transpose(0, 1).contiguous().transpose(0, 1),
    }
    for kind, view in views.items():
        ours = view.requires_grad_()
        found = rms_norm(ours, weight, EPS)
        torch.testing.assert_close(found, expected, msg=f"{kind}: {{}}".format)
        turned = direction.transpose(0, 1).contiguous().transpose(0, 1)
        torch.testing.assert_close(torch.autograd.grad(found, ours, turned)[0], theirs, msg=f"{kind}: {{}}".format)


def test_gradients_by_finite_differences() -> None:
    x, weight, _, _ = (t.requires_grad_() for t in draw(2, 3, 4))
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, EPS), (x, weight))


def test_statistics_are_of_each_row() -> None:
    x, weight, _, _ = draw(2, PIECE + 1, CHANNELS)
    _, statistics = normalise(x, weight, None, EPS)
    assert isinstance(statistics, Statistics)
    torch.testing.assert_close(statistics.scale, (x.square().mean(-1, keepdim=True) + EPS).rsqrt())
