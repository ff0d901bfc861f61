"""Self-attention over time: full, windowed and down-sampling, in one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, Pointwise
from eventide.layers.norm import ChannelNorm


def full_attention(q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, dropout: float) -> Tensor:
    """Attention of every query to every valid key. q, k, v (B, H, T, D), valid (B, T) bool -> (B, H, T, D)."""
    mask = None if valid is None else valid[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def windowed_attention(
    q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, half: int, bias: Tensor | None, dropout: float
) -> Tensor:
    """Attention of every query to the valid keys at most `half` positions away.

    q, k, v (B, H, T, D); valid (B, T) bool; bias (H, 2 half + 1) is added to the scores by distance. Queries are taken in blocks, each with the keys
    that any of its queries may see, so memory is O(T * window). Returns (B, H, T, D).
    """
    batch, heads, length, width = q.shape
    block = max(32, half)
    blocks = -(-length // block)
    padded = blocks * block
    span = block + 2 * half
    q = F.pad(q, (0, 0, 0, padded - length)).view(batch, heads, blocks, block, width)
    k = _spans(F.pad(k, (0, 0, half, padded - length + half)), block, span)
    v = _spans(F.pad(v, (0, 0, half, padded - length + half)), block, span)
    scores = torch.matmul(q * width**-0.5, k.transpose(-1, -2))  # (B, H, blocks, block, span)
    distance = torch.arange(span, device=q.device) - half - torch.arange(block, device=q.device)[:, None]
    near = distance.abs() <= half
    if bias is not None:
        scores = scores + bias[:, (distance + half).clamp(0, 2 * half)].unsqueeze(1)
    if valid is None:
        position = torch.arange(padded + 2 * half, device=q.device) - half
        seen = ((position >= 0) & (position < length)).unfold(0, span, block)[None]
    else:
        seen = F.pad(valid, (half, padded - length + half)).unfold(1, span, block)  # (B, blocks, span)
    allowed = near & seen[:, None, :, None, :]
    # A finite floor instead of -inf: queries without any valid key (padding) get numbers that the caller masks, not NaN.
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return torch.matmul(weights, v).view(batch, heads, padded, width)[:, :, :length]


def _spans(x: Tensor, block: int, span: int) -> Tensor:
    """(B, H, T, D) -> (B, H, blocks, span, D), neighbouring spans overlapping by span - block."""
    return x.unfold(2, span, block).transpose(-1, -2)


class ConvAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values first pass a depth-wise convolution (ActionFormer, section 3.2).

    `stride` above 1 shortens the sequence; `window` (odd, above 1) limits the distance of keys, otherwise all are seen.
    """

    def __init__(
        self, channels: int, heads: int, *, stride: int, window: int, dropout: float, attention_dropout: float, use_rel_pe: bool
    ):
        super().__init__()
        self.heads, self.stride = heads, stride
        self.half = window // 2 if window > 1 else None
        self.dropout, self.attention_dropout = dropout, attention_dropout
        kernel = stride + 1 if stride > 1 else 3
        self.query_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.key_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.value_conv = Conv(channels, channels, kernel, stride, channels, bias=False)
        self.query_norm, self.key_norm, self.value_norm = (ChannelNorm(channels) for _ in range(3))
        self.query, self.key, self.value, self.proj = (Pointwise(channels, channels) for _ in range(4))
        self.rel_pe: nn.Parameter | None = None
        if use_rel_pe and self.half is not None:
            self.rel_pe = nn.Parameter(torch.zeros(1, 1, heads, 2 * self.half + 1))
            nn.init.trunc_normal_(self.rel_pe, std=(2.0 / channels) ** 0.5)

    def forward(self, x: Tensor, canvas: Canvas) -> Tensor:
        """`x` (B, T, C), zero outside the canvas; `canvas` of the output level -> (B, ceil(T / stride), C), not masked."""
        q = self._heads(self.query(self.query_norm(self.query_conv(x))))
        k = self._heads(self.key(self.key_norm(self.key_conv(x))))
        v = self._heads(self.value(self.value_norm(self.value_conv(x))))
        dropout = self.attention_dropout if self.training else 0.0
        if self.half is None:
            out = full_attention(q, k, v, canvas.valid, dropout)
        else:
            bias = None if self.rel_pe is None else self.rel_pe[0, 0]
            out = windowed_attention(q, k, v, canvas.valid, self.half, bias, dropout)
        out = self.proj(out.transpose(1, 2).flatten(2))
        return F.dropout(out, self.dropout, self.training)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, C / H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
