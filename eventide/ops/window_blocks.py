"""How windowed attention cuts a sequence: blocks of queries, each with the span of keys that any of them may see.

Spans of neighbouring blocks overlap. They are strided views of one padded tensor, so neither keys nor values are copied
and memory is linear in the length. The sequences of a batch lie one after the other in one long row of blocks; keys of
the neighbouring sequence are masked like all others that are too far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.pad_rows import pad_rows


@dataclass(frozen=True)
class WindowBlocks:
    """`batch` sequences of `length` in `count` blocks each, of `size` queries and `span` = size + 2 `half` keys."""

    batch: int
    length: int
    half: int
    size: int
    count: int

    @classmethod
    def of(cls, x: Tensor, half: int) -> WindowBlocks:
        """The blocks of `x` (B, T, C)."""
        # At least twice the half window, so that a span overlaps only its two neighbours; at least 32, for matrix
        # products of a useful size.
        size = max(32, 2 * half)
        return cls(x.shape[0], x.shape[1], half, size, -(-x.shape[1] // size))

    @property
    def span(self) -> int:
        return self.size + 2 * self.half

    @property
    def total(self) -> int:
        """Blocks of all sequences."""
        return self.batch * self.count

    def flatten(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (total * size, C), zeros at the end of each sequence."""
        missing = self.count * self.size - self.length
        return pad_rows(x, 0, missing).contiguous().flatten(0, 1)

    def flatten_keys(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (half + total * size + half, C)."""
        if self.count * self.size == self.length or self.batch > 1:
            return pad_rows(self.flatten(x), self.half, self.half)
        return pad_rows(x[0], self.half, self.count * self.size - self.length + self.half)

    def restore(self, x: Tensor) -> Tensor:
        """(total * size, C) -> (B, T, C)."""
        return x.unflatten(0, (self.batch, -1))[:, : self.length]

    def restore_keys(self, x: Tensor) -> Tensor:
        """(half + total * size + half, C) -> (B, T, C)."""
        return self.restore(x[self.half : self.half + self.total * self.size])

    def blocks(self, x: Tensor, channels: slice) -> Tensor:
        """The query blocks of some channels: (total, size, D), a view of (total * size, C)."""
        return x[:, channels].unflatten(0, (self.total, self.size))

    def spans(self, x: Tensor, channels: slice) -> Tensor:
        """The key spans of some channels: (total, span, D), an overlapping view of the padded (.., C)."""
        head = x[:, channels]
        row = head.stride(0)
        shape, strides = (self.total, self.span, head.shape[1]), (self.size * row, row, 1)
        return head.as_strided(shape, strides, head.storage_offset())

    def distance(self, device: torch.device) -> Tensor:
        """Distance of each key of a span from each query of its block: (size, span)."""
        key = torch.arange(self.span, device=device) - self.half
        return key - torch.arange(self.size, device=device)[:, None]

    def barrier(self, valid: Tensor | None, like: Tensor) -> Tensor:
        """What is added to scores: 0 where a query may see a key, a very low number elsewhere; (total or count, size,
        span). One for all sequences where nothing is padded.

        `valid` (B, T) bool. Not minus infinity, which would turn queries without any key into NaN.
        """
        if valid is None:
            valid = torch.ones(1, self.length, dtype=torch.bool, device=like.device)
        right = self.count * self.size - self.length + self.half
        seen = F.pad(valid, (self.half, right)).unfold(1, self.span, self.size).flatten(0, 1)
        allowed = (self.distance(like.device).abs() <= self.half) & seen[:, None, :]
        low = torch.finfo(like.dtype).min / 2
        return torch.zeros_like(allowed, dtype=like.dtype).masked_fill_(~allowed, low)

    def whole_barrier(self, valid: Tensor | None, like: Tensor) -> Tensor:
        """The barrier of every block of the batch: (total, size, span)."""
        barrier = self.barrier(valid, like)
        return barrier if barrier.shape[0] == self.total else barrier.repeat(self.batch, 1, 1)

    def distance_bias(self, bias: Tensor) -> Tensor:
        """A bias (H, 2 half + 1) by distance, -half first, for each pair of a block: (H, size, span)."""
        return bias[:, (self.distance(bias.device) + self.half).clamp_(0, 2 * self.half)]

    def add_spans(self, spans: Tensor, into: Tensor) -> None:
        """Adds (total, span, D) at their places in (half + total * size + half, D)."""
        covered = self.total * self.size
        into[:covered].unflatten(0, (self.total, self.size)).add_(spans[:, : self.size])
        tail = spans[:, self.size :]
        if self.total > 1:
            inner = into[self.size : covered].unflatten(0, (self.total - 1, self.size))
            inner[:, : tail.shape[1]].add_(tail[:-1])
        into[covered:].add_(tail[-1])


def head_slices(channels: int, heads: int) -> list[slice]:
    """The channels of each head."""
    width = channels // heads
    return [slice(head * width, (head + 1) * width) for head in range(heads)]
