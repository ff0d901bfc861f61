"""ops/gated_linear.py: SiLU gate, product and linear map against the plain formula, in pieces and whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.ops import row_norm
from eventide.ops.gated_linear import gated_linear
from tests import references

INNER, OUTPUTS = 6, 5
PIECE = 64  # rows: the smallest piece


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_norm, "CACHED_NUMBERS", 1)


def draw(*shape: int) -> tuple[list[Tensor], Tensor]:
    """Input, weight and bias, and the direction of the gradient; float64 with numbers that float32 has."""
    generator = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(*shape, 2 * INNER, generator=generator).double()
    weight = torch.randn(OUTPUTS, INNER, generator=generator).double()
    bias = torch.randn(OUTPUTS, generator=generator).double()
    return [x, weight, bias], torch.randn(*shape, OUTPUTS, generator=generator).double()


def formula(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    gate, value = x[..., :INNER], x[..., INNER:]
    return references.linear(references.silu(gate) * value, weight, bias)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 1), (1, PIECE - 1), (1, PIECE), (1, PIECE + 1), (3, 2 * PIECE + 3), (7,), (2, 3, 4)], ids=str
)
def test_against_the_formula(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    inputs, direction = draw(*shape)
    exact = [t.requires_grad_() for t in inputs]
    ours = [t.detach().to(dtype).requires_grad_() for t in inputs]
    expected, found = formula(*exact), gated_linear(*ours)
    assert found.dtype == dtype
    assert found.shape == (*shape, OUTPUTS)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    references.assert_gradients_close(
        references.gradients(found, direction, ours), references.gradients(expected, direction, exact)
    )


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)], ids=str)
def test_no_rows(shape: tuple[int, ...]) -> None:
    inputs, direction = draw(*shape)
    tensors = [t.float().requires_grad_() for t in inputs]
    out = gated_linear(*tensors)
    assert out.shape == (*shape, OUTPUTS)
    for gradient, tensor in zip(torch.autograd.grad(out, tensors, direction.float()), tensors, strict=True):
        assert gradient.shape == tensor.shape
        assert (gradient == 0).all()


@pytest.mark.parametrize("rows", [1, PIECE + 1])
def test_bfloat16_is_close_to_float32(rows: int) -> None:
    inputs, direction = draw(2, rows)
    low = inputs[0].bfloat16().requires_grad_()
    parameters = [t.float().requires_grad_() for t in inputs[1:]]  # stay float32 under mixed precision
    out = gated_linear(low, *parameters)
    assert out.dtype == torch.bfloat16
    exact = [low.detach().float().requires_grad_(), *(t.detach().clone().requires_grad_() for t in parameters)]
    expected = gated_linear(*exact)
    assert (out.float() - expected).norm() <= 0.02 * expected.norm()
    found = torch.autograd.grad(out, [low, *parameters], direction.bfloat16())
    assert [t.dtype for t in found] == [torch.bfloat16, torch.float32, torch.float32]
    for ours, theirs in zip(found, torch.autograd.grad(expected, exact, direction.float()), strict=True):
        assert (ours.float() - theirs).norm() <= 0.02 * theirs.norm()


def test_views_and_gradients_that_are_views() -> None:
    (x, weight, bias), direction = draw(3, PIECE + 1)
    expected = gated_linear(x.requires_grad_(), weight, bias)
    (theirs,) = torch.autograd.grad(expected, x, direction)
    views = {
        "transposed": x.detach().transpose(1, 2).contiguous().transpose(1, 2),
        "sliced": torch.cat((x, x), dim=1).detach()[:, : PIECE + 1],
        "batch last": x.detach().transpose(0, 1).contiguous().transpose(0, 1),
        "expanded": x.detach()[:1].expand(3, -1, -1),
    }
    for kind, view in views.items():
        ours = view.detach().requires_grad_()
        found = gated_linear(ours, weight, bias)
        (gradient,) = torch.autograd.grad(found, ours, direction.transpose(0, 1).contiguous().transpose(0, 1))
        if kind != "expanded":
            torch.testing.assert_close(found, expected, msg=f"{kind}: {{}}".format)
            torch.testing.assert_close(gradient, theirs, msg=f"{kind}: {{}}".format)
        assert gradient.shape == x.shape


def test_gradients_by_finite_differences() -> None:
    inputs, _ = draw(2, 3)
    assert torch.autograd.gradcheck(gated_linear, [t.requires_grad_() for t in inputs])
