"""Depth-wise convolution and norm in one step against the two steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.conv_norm import conv_norm

CHANNELS = 6


def two_steps(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    convolved = F.conv1d(x.transpose(1, 2), kernel, None, stride, kernel.shape[-1] // 2, groups=CHANNELS)
    return F.layer_norm(convolved.transpose(1, 2), (CHANNELS,), weight, bias, 1e-5)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 4)], ids=["same length", "half", "quarter"])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 33])
def test_values_and_gradients(length: int, size: int, stride: int) -> None:
    torch.manual_seed(0)
    shapes = ((2, length, CHANNELS), (CHANNELS, 1, size), (CHANNELS,), (CHANNELS,))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    expected, found = two_steps(*inputs, stride), conv_norm(*inputs, stride, 1e-5)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, inputs, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_low_precision_input_with_full_precision_norm() -> None:
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 9, CHANNELS).bfloat16(), torch.randn(CHANNELS, 1, 3).bfloat16().requires_grad_()
    weight, bias = torch.randn(CHANNELS, requires_grad=True), torch.randn(CHANNELS, requires_grad=True)
    out = conv_norm(x, kernel, weight, bias, 1, 1e-5)
    out.sum().backward()
    assert out.dtype == kernel.grad.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert weight.grad.dtype == torch.float32  # type: ignore[union-attr]
    expected = two_steps(x.float(), kernel.float(), weight, bias, 1)
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
