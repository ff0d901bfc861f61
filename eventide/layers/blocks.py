"""Residual blocks of the backbones."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.attention import ConvAttention
from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, Pointwise, max_pool_over_time
from eventide.layers.norm import ChannelNorm
from eventide.layers.regularisation import AffineDropPath, channel_scale
from eventide.ops.gelu_linear import gelu_linear


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
        hidden = self[0](x)
        if self.training and self.dropout > 0:
            hidden = F.dropout(F.gelu(hidden), self.dropout)
            return F.dropout(second(hidden, scale), self.dropout)
        return gelu_linear(hidden, *second.matrix(scale))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block; `stride` above 1 shortens the sequence and max-pools the skip connection
    (ActionFormer, section 3.2).
    """

    def __init__(
        self, channels: int, heads: int, *, stride: int, window: int, dropout: float, droppath: float, use_rel_pe: bool
    ):
        super().__init__()
        self.stride = stride
        self.ln1, self.ln2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attn = ConvAttention(channels, heads, stride=stride, window=window, dropout=dropout, use_rel_pe=use_rel_pe)
        self.mlp = FeedForward(channels, 4 * channels, dropout)
        self.drop_path_attn = AffineDropPath(channels, droppath) if droppath > 0 else nn.Identity()
        self.drop_path_mlp = AffineDropPath(channels, droppath) if droppath > 0 else nn.Identity()

    def forward(self, x: Tensor, canvas: Canvas) -> tuple[Tensor, Canvas]:
        """`x` (B, T, C), zero outside the canvas -> (B, ceil(T / stride), C), zero where not valid, and the canvas
        of that level.
        """
        below, canvas = canvas, canvas.downsample(self.stride) if self.stride > 1 else canvas
        attended = self.attn(below.keep_inside(self.ln1(x)), canvas, channel_scale(self.drop_path_attn))
        skip = max_pool_over_time(x, self.stride, below.inside) if self.stride > 1 else x
        x = skip + self.drop_path_attn(attended)
        x = x + self.drop_path_mlp(self.mlp(self.ln2(x), channel_scale(self.drop_path_mlp)))
        return canvas.keep_valid(x), canvas


class ConvBlock(nn.Module):
    """Two convolutions with a skip connection, as in ResNet; `stride` above 1 shortens the sequence."""

    def __init__(self, channels: int, *, stride: int, kernel: int = 3, expansion: int = 2):
        super().__init__()
        self.conv1 = Conv(channels, channels * expansion, kernel, stride)
        self.conv2 = Conv(channels * expansion, channels, kernel)
        self.downsample = Conv(channels, channels, 1, stride) if stride > 1 else None
        self.stride = stride

    def forward(self, x: Tensor, canvas: Canvas) -> tuple[Tensor, Canvas]:
        """`x` (B, T, C), zero outside the canvas -> (B, ceil(T / stride), C), zero outside the canvas, and the
        canvas of that level.
        """
        if self.stride > 1:
            canvas = canvas.downsample(self.stride)
        hidden = F.relu(canvas.keep_valid(self.conv1(x)))
        out = canvas.keep_valid(self.conv2(hidden))
        skip = x if self.downsample is None else canvas.keep_valid(self.downsample(x))
        return F.relu(out + skip), canvas
