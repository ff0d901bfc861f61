"""Residual blocks of the backbones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.attention import ConvAttention
from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, max_pool_over_time
from eventide.layers.feed_forward import FeedForward, GatedFeedForward, gated_width
from eventide.layers.norm import make_norm
from eventide.layers.pieces import in_overlapping_pieces
from eventide.layers.regularisation import AffineDropPath, channel_scale


@dataclass(frozen=True)
class BlockStyle:
    """What the transformer blocks of a backbone share. The defaults are ActionFormer's (v1)."""

    heads: int
    shared_heads: int | None = None  # of keys and values; None: as many as heads
    hidden: int | None = None  # middle of the feed-forward; None: 4 channels, or as many parameters when gated
    rotary: bool = False
    fused: bool = True  # attention kernels that keep no weights
    gated: bool = False
    rms: bool = False
    use_rel_pe: bool = False
    dropout: float = 0.0
    droppath: float = 0.0

    def feed_forward(self, channels: int) -> nn.Module:
        """The feed-forward part for that many channels."""
        if self.gated:
            return GatedFeedForward(channels, self.hidden or gated_width(channels), self.dropout)
        return FeedForward(channels, self.hidden or 4 * channels, self.dropout)


class Block(nn.Module, ABC):
    """A block that turns a sequence into one `stride` times shorter. Subclasses compute it; `reach` says how far from
    stride * t the inputs of output t lie at most, None: anywhere.
    """

    stride: int
    reach: int | None

    def forward(self, x: Tensor, canvas: Canvas) -> tuple[Tensor, Canvas]:
        """`x` (B, T, C), zero outside the canvas -> (B, ceil(T / stride), C) and the canvas of that level; long
        sequences in pieces where no gradient is kept.

        Cut in here, a block is called once per sequence: processes that share its weights then ask for them equally
        often, however long their sequences are.
        """
        out = in_overlapping_pieces(self.compute, x, canvas, reach=self.reach, stride=self.stride)
        return out, canvas if self.stride == 1 else canvas.downsample(self.stride)

    @abstractmethod
    def compute(self, x: Tensor, canvas: Canvas) -> Tensor:
        """The output for a whole sequence or a piece of one."""


class TransformerBlock(Block):
    """Pre-norm transformer block; `stride` above 1 shortens the sequence and max-pools the skip connection
    (ActionFormer, section 3.2).
    """

    def __init__(self, channels: int, style: BlockStyle, *, stride: int, window: int):
        super().__init__()
        self.stride = stride
        self.ln1, self.ln2 = make_norm(channels, rms=style.rms), make_norm(channels, rms=style.rms)
        self.attn = ConvAttention(
            channels,
            style.heads,
            style.shared_heads or style.heads,
            stride=stride,
            window=window,
            rotary=style.rotary,
            fused=style.fused,
            rms=style.rms,
            dropout=style.dropout,
            use_rel_pe=style.use_rel_pe,
        )
        # By way of the window, the convolution or the pool.
        self.reach = None if self.attn.reach is None else self.attn.reach * stride + (stride + 1) // 2
        self.mlp = style.feed_forward(channels)
        droppath = style.droppath
        self.drop_path_attn = AffineDropPath(channels, droppath) if droppath > 0 else nn.Identity()
        self.drop_path_mlp = AffineDropPath(channels, droppath) if droppath > 0 else nn.Identity()

    def compute(self, x: Tensor, canvas: Canvas) -> Tensor:
        """`x` (B, T, C), zero outside the canvas -> (B, ceil(T / stride), C), zero where not valid."""
        below, canvas = canvas, canvas.downsample(self.stride) if self.stride > 1 else canvas
        attended = self.attn(below.keep_inside(self.ln1(x)), canvas, channel_scale(self.drop_path_attn))
        skip = max_pool_over_time(x, self.stride, below.inside) if self.stride > 1 else x
        x = skip + self.drop_path_attn(attended)
        x = x + self.drop_path_mlp(self.mlp(self.ln2(x), channel_scale(self.drop_path_mlp)))
        return canvas.keep_valid(x)


class ConvBlock(Block):
    """Two convolutions with a skip connection, as in ResNet; `stride` above 1 shortens the sequence."""

    def __init__(self, channels: int, *, stride: int, kernel: int = 3, expansion: int = 2):
        super().__init__()
        self.conv1 = Conv(channels, channels * expansion, kernel, stride)
        self.conv2 = Conv(channels * expansion, channels, kernel)
        self.downsample = Conv(channels, channels, 1, stride) if stride > 1 else None
        self.stride, self.reach = stride, (stride + 1) * (kernel // 2)

    def compute(self, x: Tensor, canvas: Canvas) -> Tensor:
        """`x` (B, T, C), zero outside the canvas -> (B, ceil(T / stride), C), zero outside the canvas."""
        if self.stride > 1:
            canvas = canvas.downsample(self.stride)
        hidden = F.relu(canvas.keep_valid(self.conv1(x)))
        out = canvas.keep_valid(self.conv2(hidden))
        skip = x if self.downsample is None else canvas.keep_valid(self.downsample(x))
        return F.relu(out + skip)
