"""All levels of a pyramid in one sequence, so that what is shared by the levels runs once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eventide.layers.canvas import Canvas


@dataclass(frozen=True)
class JoinedLevels:
    """Levels one after the other with zeros between, wide enough that no convolution sees a neighbouring level.

    `x` (B, N, C) and its canvas, outside of which are the gaps; level l starts at `starts[l]` and has `lengths[l]`
    positions.
    """

    x: Tensor
    canvas: Canvas
    starts: list[int]
    lengths: list[int]

    def split(self, x: Tensor) -> list[Tensor]:
        """(B, N, K) -> L x (B, T_l, K)."""
        return [x[:, start : start + length] for start, length in zip(self.starts, self.lengths, strict=True)]


def join_levels(levels: list[Tensor], canvases: list[Canvas], reach: int) -> JoinedLevels:
    """Joins L x (B, T_l, C); `reach` is half the widest kernel that will run over the result."""
    lengths = [x.shape[1] for x in levels]
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length + reach)
    total = starts.pop()
    total += total % 2
    gap = levels[0].new_zeros(levels[0].shape[0], reach + 1, levels[0].shape[2])
    parts = []
    for level, length, start, end in zip(levels, lengths, starts, [*starts[1:], total], strict=True):
        parts += [level, gap[:, : end - start - length]]
    inside = _join_masks([c.inside for c in canvases], lengths, starts, total, gap.device)
    valid = inside
    if canvases[0].has_margin:
        valid = _join_masks([c.valid for c in canvases], lengths, starts, total, gap.device)
    return JoinedLevels(torch.cat(parts, dim=1), Canvas(valid, inside), starts, lengths)


def _join_masks(
    masks: list[Tensor | None], lengths: list[int], starts: list[int], total: int, device: torch.device
) -> Tensor:
    batch = 1 if masks[0] is None else masks[0].shape[0]
    joined = torch.zeros(batch, total, dtype=torch.bool, device=device)
    for mask, length, start in zip(masks, lengths, starts, strict=True):
        joined[:, start : start + length] = True if mask is None else mask
    return joined
