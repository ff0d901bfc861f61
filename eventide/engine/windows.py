"""Overlapping windows over a recording that is too long for one pass (`test_cfg.chunk`).

Windows start at multiples of the largest stride, so the pyramid points of all windows are those of one long pass. Each
point belongs to one window, the one in whose middle it lies; only its owner reports it, so no event is found twice and
every event is seen with the context of at least half an overlap on each side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eventide.types import UsageError


@dataclass(frozen=True)
class Window:
    """Feature vectors [start, stop) are computed; points at positions [owned_from, owned_to) are reported."""

    start: int
    stop: int
    owned_from: int
    owned_to: int

    def owned(self, count: int, stride: int, device: torch.device) -> Tensor:
        """Which of the `count` points of a level belong to this window, (count,) bool."""
        positions = self.start + stride * torch.arange(count, device=device)
        return (positions >= self.owned_from) & (positions < self.owned_to)


def plan_windows(total: int, length: int, overlap: int, multiple: int) -> list[Window]:
    """Windows of `length` over `total` vectors, sharing at least `overlap`; they start at multiples of `multiple`.

    Raises:
        UsageError: windows of this length and overlap would not move forward by one stride of the coarsest level.
    """
    step = (length - overlap) // multiple * multiple
    if step < multiple:
        raise UsageError(
            f"test_cfg.chunk: length {length} less overlap {overlap} must be at least {multiple}, the stride of the "
            "coarsest pyramid level; make the windows longer or the overlap smaller"
        )
    if total <= length:
        return [Window(0, total, 0, total)]
    starts = list(range(0, total - length, step))
    starts.append(-(-(total - length) // multiple) * multiple)
    stops = [min(start + length, total) for start in starts]
    edges = [0, *((start + stop) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)), total]
    return [Window(*ends) for ends in zip(starts, stops, edges[:-1], edges[1:], strict=True)]
