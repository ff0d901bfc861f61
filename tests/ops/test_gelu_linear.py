"""GELU and linear map in one step against the two steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eventide.ops.gelu_linear import gelu_linear


@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 5, 6), (0, 3, 6), (7, 6)], ids=str)
def test_values_and_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in (shape, (4, 6), (4,))]
    x, weight, bias = inputs
    expected, found = F.linear(F.gelu(x), weight, bias), gelu_linear(x, weight, bias)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, inputs, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_extremes() -> None:
    x = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
    out = gelu_linear(x, torch.eye(3), torch.zeros(3))
    assert out.tolist() == [[0.0, 0.0, 1e4]]
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 0.5, 1.0]]


def test_mixed_precision_keeps_the_dtype_of_the_input_and_of_the_weights() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 8).bfloat16().requires_grad_()
    weight, bias = torch.randn(4, 8, requires_grad=True), torch.randn(4, requires_grad=True)
    out = gelu_linear(x, weight, bias)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert weight.grad.dtype == bias.grad.dtype == torch.float32  # type: ignore[union-attr]
    torch.testing.assert_close(out.float(), F.linear(F.gelu(x.float()), weight, bias), rtol=0.05, atol=0.05)
