"""SiLU gate, product and the linear map after them as one step that keeps its input only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.linear import linear_over_time
from eventide.ops.row_norm import row_pieces


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x` (..., 2 I) of gate and value, `weight` (O, I), `bias` (O,) -> linear(silu(gate) * value) (..., O), in the
    dtype of `x`; differentiable once.
    """
    if torch.compiler.is_compiling():
        gate, value = x.chunk(2, dim=-1)
        return F.linear(F.silu(gate) * value, weight.to(x.dtype), bias.to(x.dtype))
    return _GatedLinear.apply(x, weight, bias)


class _GatedLinear(torch.autograd.Function):
    """The gated middle is made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear_over_time(_gated(x), weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        for_middle = linear_over_time(gradient, weight.t().to(x.dtype), None).flatten(0, -2)
        middle = torch.empty_like(for_middle, memory_format=torch.contiguous_format)
        for_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part, incoming, made, out in row_pieces(x.flatten(0, -2), for_middle, middle, for_x.view(-1, x.shape[-1])):
            gate, value = part.chunk(2, dim=-1)
            for_gate, for_value = out.chunk(2, dim=-1)
            activation = F.silu(gate)
            torch.mul(activation, value, out=made)
            torch.mul(incoming, activation, out=for_value)
            for_gate.copy_(torch.ops.aten.silu_backward(incoming * value, gate))
        for_weight = torch.mm(rows.t(), middle).to(weight.dtype)
        return for_x, for_weight, rows.sum(0).to(weight.dtype)


def _gated(x: Tensor) -> Tensor:
    """silu(gate) * value: (..., 2 I) -> (..., I)."""
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    for part, made in row_pieces(x.flatten(0, -2), out.view(-1, out.shape[-1])):
        gate, value = part.chunk(2, dim=-1)
        torch.mul(F.silu(gate), value, out=made)
    return out
