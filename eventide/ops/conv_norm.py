"""Depth-wise convolution over time and the norm after it as one step that keeps its input only (CPU)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.row_norm import Statistics, normalise, normalise_backward


def conv_norm(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor | None, stride: int, eps: float) -> Tensor:
    """Norm over channels of a depth-wise convolution with zero padding of half the kernel; differentiable once.

    `x` (B, T, C) and `kernel` (C, 1, K) of one dtype, `weight` and `bias` (C,) -> (B, ceil(T / stride), C). Layer
    norm with a bias, RMS norm without.
    """
    return _ConvNorm.apply(x, kernel, weight, bias, stride, eps)


def _image(x: Tensor) -> Tensor:
    """(B, T, C) as a channels-last image (B, C, 1, T), a view."""
    return x.transpose(1, 2).unsqueeze(2)


def _sequence(image: Tensor) -> Tensor:
    return image.squeeze(2).transpose(1, 2)


class _ConvNorm(torch.autograd.Function):
    """Three of these read one input; making the convolution again is cheaper than keeping three results of it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor | None, stride: int, eps: float
    ) -> Tensor:
        ctx.stride, ctx.channels = stride, x.shape[-1]
        out, statistics = normalise(_ConvNorm.convolve(ctx, x, kernel), weight, bias, eps)
        ctx.save_for_backward(x, kernel, weight, bias, *statistics)
        return out

    @staticmethod
    def convolve(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        """The convolution alone."""
        half = kernel.shape[-1] // 2
        out = F.conv2d(_image(x), kernel.unsqueeze(2), None, (1, ctx.stride), (0, half), 1, ctx.channels)
        return _sequence(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, weight, bias, mean, scale = ctx.saved_tensors
        convolved = _ConvNorm.convolve(ctx, x, kernel)
        for_conv, for_weight, for_bias = normalise_backward(gradient, convolved, weight, bias, Statistics(mean, scale))
        for_x, for_kernel, _ = torch.ops.aten.convolution_backward(
            _image(for_conv),
            _image(x),
            kernel.unsqueeze(2),
            None,
            [1, ctx.stride],
            [0, kernel.shape[-1] // 2],
            [1, 1],
            False,
            [0, 0],
            ctx.channels,
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False],
        )
        for_x = None if for_x is None else _sequence(for_x)
        return for_x, None if for_kernel is None else for_kernel.squeeze(2), for_weight, for_bias, None, None
