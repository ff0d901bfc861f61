"""Self-attention over time: full, windowed and down-sampling, in one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, Pointwise
from eventide.layers.norm import ChannelNorm, convolve_and_norm, in_autocast_dtype
from eventide.ops.windowed_attention import windowed_attention


class ConvAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values first pass a depth-wise convolution (ActionFormer,
    section 3.2).

    `stride` above 1 shortens the sequence; `window` (odd, above 1) limits the distance of keys, otherwise all are seen.
    """

    def __init__(self, channels: int, heads: int, *, stride: int, window: int, dropout: float, use_rel_pe: bool):
        super().__init__()
        self.heads, self.stride = heads, stride
        self.reach = window // 2 if window > 1 else None
        self.dropout = dropout
        kernel = stride + 1 if stride > 1 else 3
        self.query_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.key_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.value_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.query_norm, self.key_norm, self.value_norm = (ChannelNorm(channels) for _ in range(3))
        self.query, self.key, self.value, self.proj = (Pointwise(channels, channels) for _ in range(4))
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
        if self.reach is None:
            out = self._full(q, k, v, canvas.valid)
        else:
            bias = None if self.rel_pe is None else self.rel_pe[0, 0]
            out = windowed_attention(q, k, v, heads=self.heads, half=self.reach, valid=canvas.valid, bias=bias)
        return F.dropout(self.proj(out, scale), self.dropout, self.training)

    def _full(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """Attention of every query to every valid key; q, k, v (B, T, C), valid (B, T) bool -> (B, T, C)."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        mask = None if valid is None else valid[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
