"""Self-attention over time: full, windowed and down-sampling, in one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, Pointwise
from eventide.layers.norm import convolve_and_norm, make_norm
from eventide.ops.attention import attention
from eventide.ops.precision import in_autocast_dtype
from eventide.ops.rope import rotate


class ConvAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values first pass a depth-wise convolution (ActionFormer,
    section 3.2).

    `stride` above 1 shortens the sequence; `window` (odd, above 1) limits the distance of keys, otherwise all are seen.
    `shared_heads` heads of keys and values serve `heads` of queries. `rotary` turns queries and keys by their position.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        shared_heads: int,
        *,
        stride: int,
        window: int,
        rotary: bool,
        fused: bool,
        rms: bool,
        dropout: float,
        use_rel_pe: bool,
    ):
        super().__init__()
        self.heads, self.shared_heads, self.stride = heads, shared_heads, stride
        self.rotary, self.fused, self.dropout = rotary, fused, dropout
        self.reach = window // 2 if window > 1 else None
        kernel = stride + 1 + stride % 2  # odd, so that ceil(T / stride) positions come out
        self.query_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.key_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.value_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.query_norm = make_norm(channels, rms=rms)
        self.key_norm = make_norm(channels, rms=rms)
        self.value_norm = make_norm(channels, rms=rms)
        shared = channels // heads * shared_heads
        self.query, self.key, self.value, self.proj = (
            Pointwise(channels, outputs) for outputs in (channels, shared, shared, channels)
        )
        self.rel_pe: nn.Parameter | None = None
        if use_rel_pe and self.reach is not None:
            self.rel_pe = nn.Parameter(torch.zeros(1, 1, heads, 2 * self.reach + 1))
            nn.init.trunc_normal_(self.rel_pe, std=(2.0 / channels) ** 0.5)

    def forward(self, x: Tensor, canvas: Canvas, scale: Tensor | None = None) -> Tensor:
        """`x` (B, T, C), zero outside the canvas; `canvas` of the output level -> (B, ceil(T / stride), C), not
        masked.
        """
        x = in_autocast_dtype(x)  # once, and not again for each of the three
        q = self.query(convolve_and_norm(x, self.query_conv, self.query_norm))
        k = self.key(convolve_and_norm(x, self.key_conv, self.key_norm))
        v = self.value(convolve_and_norm(x, self.value_conv, self.value_norm))
        if self.rotary and canvas.rotation is not None:
            q, k = rotate(q, self.heads, canvas.rotation), rotate(k, self.shared_heads, canvas.rotation)
        bias = None if self.rel_pe is None else self.rel_pe[0, 0]
        out = attention(q, k, v, heads=self.heads, half=self.reach, valid=canvas.valid, bias=bias, fused=self.fused)
        return F.dropout(self.proj(out, scale), self.dropout, self.training)
