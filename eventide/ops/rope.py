"""Rotary position embeddings (Su et al., RoFormer, 2021, section 3.2): scores depend on the distance only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BASE = 10000.0  # of the geometric row of wavelengths, from 2 pi to 2 pi BASE positions; as published


def rotation_table(length: int, width: int, like: Tensor) -> Tensor:
    """Cosine and sine of every position's angles: (length, width / 2, 2), float64 for a float64 `like`, else float32.

    `width` is the even number of channels of a head. The angles are computed in float64: in float32 those of position
    100,000 would be off by hundredths.
    """
    if like.device.type == "mps":  # which has no float64
        return rotation_table(length, width, torch.empty(0, dtype=like.dtype)).to(like.device)
    pair = torch.arange(width // 2, device=like.device, dtype=torch.float64)
    position = torch.arange(length, device=like.device, dtype=torch.float64)
    angle = position[:, None] * BASE ** (-2 * pair / width)
    table = torch.stack((angle.cos(), angle.sin()), dim=-1)
    return table if like.dtype == torch.float64 else table.float()


def rotate(x: Tensor, heads: int, table: Tensor) -> Tensor:
    """Turns neighbouring channel pairs of every head of `x` (B, T, heads * width) by the angles of `table`
    (T, width / 2, 2); in the dtype of `x`, differentiable once.
    """
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula and cannot read complex numbers
        return _formula(x, heads, table)
    return _Rotate.apply(x, heads, table)


def _formula(x: Tensor, heads: int, table: Tensor) -> Tensor:
    even, odd = x.unflatten(-1, (heads, -1, 2)).to(table.dtype).unbind(-1)
    cos, sin = table[:, None].unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(2).to(x.dtype)


class _Rotate(torch.autograd.Function):
    """One complex multiplication; keeps nothing of `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, heads: int, table: Tensor) -> Tensor:
        ctx.heads = heads
        ctx.save_for_backward(table)
        return _multiply(x, heads, torch.view_as_complex(table))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (table,) = ctx.saved_tensors
        return _multiply(gradient, ctx.heads, torch.view_as_complex(table).conj()), None, None


def _multiply(x: Tensor, heads: int, turn: Tensor) -> Tensor:
    wide = x.unflatten(-1, (heads, turn.shape[1], 2)).to(turn.real.dtype).contiguous()
    return torch.view_as_real(torch.view_as_complex(wide) * turn[:, None]).flatten(2).to(x.dtype)
