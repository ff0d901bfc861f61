"""Attention to the neighbours at most a half window away, in memory linear in the length.

Queries are taken in blocks, each with the span of keys that any of its queries may see. Spans of neighbouring blocks
overlap; they are strided views of
one padded tensor, read in place by the matrix products, so neither heads nor spans are ever copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def windowed_attention(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Softmax attention with scores q k / sqrt(D) + bias.

    `q`, `k`, `v` (B, T, C) with `heads` times D channels; `valid` (B, T) bool marks the keys that may be seen (None:
    all); `bias` (heads, 2 half + 1) is
    added by distance of key from query, -half first. Returns (B, T, C); rows of queries that see no valid key are
    finite and mean nothing.
    """
    return _WindowedAttention.apply(q, k, v, bias, valid, heads, half)


@dataclass(frozen=True)
class _Blocks:
    """How a sequence is cut: `count` blocks of `size` queries, each with `span` = size + 2 half keys."""

    length: int
    half: int
    size: int
    count: int

    @classmethod
    def of(cls, length: int, half: int) -> _Blocks:
        # At least twice the half window, so that a span overlaps only its two neighbours; at least 32, for matrix
        # products of a useful size.
        size = max(32, 2 * half)
        return cls(length, half, size, -(-length // size))

    @property
    def span(self) -> int:
        return self.size + 2 * self.half

    def pad_queries(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, count * size, C)."""
        missing = self.count * self.size - self.length
        return F.pad(x, (0, 0, 0, missing)) if missing else x.contiguous()

    def pad_keys(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, half + count * size + half, C)."""
        return F.pad(x, (0, 0, self.half, self.count * self.size - self.length + self.half))

    def blocks(self, x: Tensor, sequence: int, channels: slice) -> Tensor:
        """The query blocks of one head: (count, size, D), a view."""
        return x[sequence, :, channels].unflatten(0, (self.count, self.size))

    def spans(self, x: Tensor, sequence: int, channels: slice) -> Tensor:
        """The key spans of one head: (count, span, D), an overlapping view."""
        head = x[sequence, :, channels]
        row = head.stride(0)
        return head.as_strided((self.count, self.span, head.shape[1]), (self.size * row, row, 1), head.storage_offset())

    def distance(self, device: torch.device) -> Tensor:
        """Distance of each key of a span from each query of its block: (size, span)."""
        key = torch.arange(self.span, device=device) - self.half
        return key - torch.arange(self.size, device=device)[:, None]

    def barrier(self, valid: Tensor | None, like: Tensor) -> Tensor:
        """What is added to scores: 0 where a query may see a key, a very low number elsewhere; (1 or B, 1, count,
        size, span).

        Not minus infinity, which would turn queries without any key into NaN.
        """
        if valid is None:
            valid = torch.ones(1, self.length, dtype=torch.bool, device=like.device)
        right = self.count * self.size - self.length + self.half
        seen = F.pad(valid, (self.half, right)).unfold(1, self.span, self.size)
        allowed = (self.distance(like.device).abs() <= self.half) & seen[:, :, None, :]
        low = torch.finfo(like.dtype).min / 2
        return torch.zeros_like(allowed, dtype=like.dtype).masked_fill_(~allowed, low).unsqueeze(1)

    def add_spans(self, spans: Tensor, into: Tensor) -> None:
        """Adds (count, span, D) at their places in (half + count * size + half, D)."""
        covered = self.count * self.size
        into[:covered].unflatten(0, (self.count, self.size)).add_(spans[:, : self.size])
        tail = spans[:, self.size :]
        if self.count > 1:
            inner = into[self.size : covered].unflatten(0, (self.count - 1, self.size))
            inner[:, : tail.shape[1]].add_(tail[:-1])
        into[covered:].add_(tail[-1])


def _heads(channels: int, heads: int) -> list[slice]:
    width = channels // heads
    return [slice(head * width, (head + 1) * width) for head in range(heads)]


class _WindowedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, valid: Tensor | None, heads: int, half: int
    ) -> Tensor:
        blocks = _Blocks.of(q.shape[1], half)
        slices = _heads(q.shape[2], heads)
        q, k, v = blocks.pad_queries(q), blocks.pad_keys(k), blocks.pad_keys(v)
        weights = q.new_empty(q.shape[0], heads, blocks.count, blocks.size, blocks.span)
        for sequence in range(q.shape[0]):
            for head, part in enumerate(slices):
                keys = blocks.spans(k, sequence, part).transpose(1, 2)
                torch.bmm(blocks.blocks(q, sequence, part), keys, out=weights[sequence, head])
        weights.mul_((q.shape[2] // heads) ** -0.5)
        if bias is not None:
            weights.add_(bias[:, (blocks.distance(q.device) + half).clamp_(0, 2 * half)].unsqueeze(1).to(q.dtype))
        # Autocast on CUDA makes softmax return float32, which the matrix products of the backward pass would refuse.
        weights = weights.add_(blocks.barrier(valid, weights)).softmax(dim=-1).to(q.dtype)
        out = torch.empty_like(q)
        for sequence in range(q.shape[0]):
            for head, part in enumerate(slices):
                blocks.blocks(out, sequence, part).copy_(
                    torch.bmm(weights[sequence, head], blocks.spans(v, sequence, part))
                )
        ctx.save_for_backward(q, k, v, weights)
        ctx.blocks, ctx.heads, ctx.with_bias = blocks, heads, bias is not None
        return out[:, : blocks.length]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        blocks: _Blocks = ctx.blocks
        gradient = blocks.pad_queries(gradient)
        scores = torch.empty_like(weights)
        for_q, for_k, for_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        slices = _heads(q.shape[2], ctx.heads)
        for sequence in range(q.shape[0]):
            for head, part in enumerate(slices):
                out = blocks.blocks(gradient, sequence, part)
                torch.bmm(out, blocks.spans(v, sequence, part).transpose(1, 2), out=scores[sequence, head])
                blocks.add_spans(torch.bmm(weights[sequence, head].transpose(1, 2), out), for_v[sequence, :, part])
        scores = torch.ops.aten._softmax_backward_data(scores, weights, -1, weights.dtype)
        for_bias = _bias_gradient(scores, blocks) if ctx.with_bias else None
        scores.mul_((q.shape[2] // ctx.heads) ** -0.5)
        for sequence in range(q.shape[0]):
            for head, part in enumerate(slices):
                score = scores[sequence, head]
                blocks.blocks(for_q, sequence, part).copy_(torch.bmm(score, blocks.spans(k, sequence, part)))
                spans = torch.bmm(score.transpose(1, 2), blocks.blocks(q, sequence, part))
                blocks.add_spans(spans, for_k[sequence, :, part])
        keys = slice(blocks.half, blocks.half + blocks.length)
        return for_q[:, : blocks.length], for_k[:, keys], for_v[:, keys], for_bias, None, None, None


def _bias_gradient(scores: Tensor, blocks: _Blocks) -> Tensor:
    """Sums the gradient of the scores (B, H, count, size, span) by distance: (H, 2 half + 1)."""
    summed = scores.sum(dim=(0, 2), dtype=torch.promote_types(scores.dtype, torch.float32)).flatten(1)
    distance = (blocks.distance(scores.device) + blocks.half).flatten()
    near = (distance >= 0) & (distance <= 2 * blocks.half)
    # Pairs too far apart have weight 0 and so gradient 0: they may be added anywhere.
    out = summed.new_zeros(scores.shape[1], 2 * blocks.half + 1)
    return out.index_add_(1, torch.where(near, distance, 0), summed)
