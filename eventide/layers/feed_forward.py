"""The feed-forward part of a block: plain with GELU, or gated (SwiGLU)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.conv import Pointwise
from eventide.layers.pieces import piece_count
from eventide.ops.gated_linear import gated_linear
from eventide.ops.gelu_linear import gelu_linear

# A gated middle is a multiple of the largest of these that changes the number of parameters by less than 1%.
ROUND_MIDDLES = (32, 16, 8, 4, 2, 1)


def gated_width(channels: int) -> int:
    """Middle width with which three matrices have as many parameters as two of a plain middle of 4 `channels`."""
    exact = 8 * channels / 3
    rounded = (max(round(exact / step), 1) * step for step in ROUND_MIDDLES)
    return next((width for width in rounded if abs(width - exact) < 0.01 * exact), max(round(exact), 1))


class FeedForward(nn.Sequential):
    """Two linear maps with GELU between; positions in the sequence as in the published checkpoints."""

    def __init__(self, channels: int, hidden: int, dropout: float):
        super().__init__(
            Pointwise(channels, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            Pointwise(hidden, channels),
            nn.Dropout(dropout),
        )
        self.dropout = dropout

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C), times `scale` (C,)."""
        second = cast(Pointwise, self[3])
        if self.training and self.dropout > 0:
            hidden = F.dropout(F.gelu(self[0](x)), self.dropout)
            return F.dropout(second(hidden, scale), self.dropout)
        matrix = second.matrix(scale)
        return joined([gelu_linear(self[0](part), *matrix) for part in in_pieces(x)])


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer, GLU Variants Improve Transformer, 2020, equation 6): one half of the middle, through SiLU,
    gates the other.
    """

    def __init__(self, channels: int, hidden: int, dropout: float):
        super().__init__()
        self.inner = Pointwise(channels, 2 * hidden)  # the gate, then what is gated
        self.outer = Pointwise(hidden, channels)
        self.dropout = dropout

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C), times `scale` (C,)."""
        if self.training and self.dropout > 0:
            gate, value = self.inner(x).chunk(2, dim=-1)
            return F.dropout(self.outer(F.dropout(F.silu(gate) * value, self.dropout), scale), self.dropout)
        matrix = self.outer.matrix(scale)
        return joined([gated_linear(self.inner(part), *matrix) for part in in_pieces(x)])


def in_pieces(x: Tensor) -> tuple[Tensor, ...]:
    """`x` (B, T, C) along time, in pieces of nearly one length where no gradient is kept and there is more of it than
    one piece: the wide middle of a long recording would need gigabytes.
    """
    count = piece_count(x)
    return (x,) if count == 1 else x.split(-(-x.shape[1] // count), dim=1)


def joined(parts: list[Tensor]) -> Tensor:
    """Pieces along time to one sequence; the only one as it is, since joining would copy it."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
