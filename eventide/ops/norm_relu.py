"""Norm over channels, then ReLU, then zeros where a mask says so, in one step that keeps one tensor instead
of three.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eventide.ops.row_norm import Statistics, normalise, normalise_backward


def norm_relu(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, keep: Tensor | None = None) -> Tensor:
    """`x` (B, T, C), `weight` and `bias` (C,), `keep` (1 or B, T) bool -> relu(norm(x)) with zeros where `keep` is
    False, in the dtype of `x`. Layer norm with a bias, RMS norm without.
    """
    if x.dtype != weight.dtype and x.device.type != "cpu":
        # Only the CPU kernels take two dtypes at once; under mixed precision the parameters are the wider ones.
        return _NormReLU.apply(x.to(weight.dtype), weight, bias, eps, keep).to(x.dtype)
    return _NormReLU.apply(x, weight, bias, eps, keep)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, keep: Tensor | None) -> Tensor:
        out, statistics = normalise(x, weight, bias, eps)
        out.relu_()
        if keep is not None:
            out.mul_(keep.unsqueeze(-1).to(out.dtype))
        ctx.save_for_backward(x, weight, bias, *statistics, out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, out = ctx.saved_tensors
        # Where ReLU or the mask cut, the output is zero: one test serves both.
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        for_x, for_weight, for_bias = normalise_backward(gradient, x, weight, bias, Statistics(mean, scale))
        return for_x, for_weight, for_bias, None, None
