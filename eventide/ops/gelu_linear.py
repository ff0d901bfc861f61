"""GELU and the linear map after it as one step that keeps its input only, not the activation as well."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.linear import linear_over_time


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x` (..., I), `weight` (O, I), `bias` (O,) -> linear(gelu(x)) (..., O), in the dtype of `x`; differentiable
    once.
    """
    if torch.compiler.is_compiling():
        return F.linear(F.gelu(x), weight.to(x.dtype), bias.to(x.dtype))
    return _GELULinear.apply(x, weight, bias)


class _GELULinear(torch.autograd.Function):
    """The activation, four times as wide as the network, is made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear_over_time(F.gelu(x), weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)
        for_weight = torch.mm(rows.t(), F.gelu(inputs)).to(weight.dtype)
        for_activation = linear_over_time(gradient, weight.t().to(x.dtype), None).flatten(0, -2)
        for_x = torch.ops.aten.gelu_backward(for_activation, inputs)
        return for_x.view_as(x), for_weight, rows.sum(0).to(weight.dtype)
