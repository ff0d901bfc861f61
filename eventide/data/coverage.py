"""How many pyramid points learn each event: the rule of target assignment, counted per event and level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from eventide.ops.assign import SAME_LENGTH, eligible_points
from eventide.ops.points import Points, pyramid_points

# Point-event pairs that are compared at a time, to bound memory.
_PAIRS = 4_000_000


class Coverage(NamedTuple):
    """Points per event and level, both (G, L) int64.

    `eligible` points lie inside the event (and near its centre) on a level that answers for its length; of these,
    `won` are the ones for which no shorter event is eligible too: the positive points of the event.
    """

    eligible: np.ndarray
    won: np.ndarray


def positive_points_per_event(
    segments: np.ndarray,
    length: int,
    strides: Sequence[int],
    regression_range: Sequence[tuple[float, float]],
    center_radius: float | None,
) -> Coverage:
    """Points of a recording of `length` feature vectors that learn each of `segments` (G, 2), grid positions.

    `strides` and `regression_range` have one entry per level; `center_radius` is in strides, None for no centre
    sampling. Exactly what `ops.assign.assign_targets` makes of the whole recording.
    """
    # The rule itself is torch code; the counting is NumPy, whose small reductions start no threads.
    events = torch.from_numpy(np.ascontiguousarray(segments, dtype=np.float32)).reshape(1, -1, 2)
    count, levels = events.shape[1], len(strides)
    eligible_count = np.zeros((levels, count), np.int64)
    won_count = np.zeros((levels, count), np.int64)
    if count:
        level_lengths = [-(-length // stride) for stride in strides]
        points = pyramid_points(level_lengths, strides, regression_range)
        level_of = np.repeat(np.arange(levels), level_lengths)
        label_ids = torch.zeros(1, count, dtype=torch.int64)
        durations = (events[0, :, 1] - events[0, :, 0]).numpy()
        step = max(1, _PAIRS // count)
        for chunk in (slice(start, start + step) for start in range(0, len(level_of), step)):
            part = Points(*(getattr(points, name)[chunk] for name in ("position", "stride", "nearest", "farthest")))
            eligible = eligible_points(part, events, label_ids, center_radius)[0][0].numpy()
            shortest = np.where(eligible, durations, np.float32(np.inf)).min(axis=1, keepdims=True)
            won = eligible & (durations <= shortest + np.float32(SAME_LENGTH))
            np.add.at(eligible_count, level_of[chunk], eligible)
            np.add.at(won_count, level_of[chunk], won)
    return Coverage(eligible_count.T, won_count.T)
