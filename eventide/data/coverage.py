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
    events = torch.from_numpy(np.ascontiguousarray(segments, dtype=np.float32)).reshape(1, -1, 2)
    count, levels = events.shape[1], len(strides)
    eligible_count = torch.zeros(levels, count, dtype=torch.int64)
    won_count = torch.zeros(levels, count, dtype=torch.int64)
    if count:
        level_lengths = [-(-length // stride) for stride in strides]
        points = pyramid_points(level_lengths, strides, regression_range)
        level_of = torch.repeat_interleave(torch.arange(levels), torch.tensor(level_lengths))
        label_ids = torch.zeros(1, count, dtype=torch.int64)
        durations = (events[..., 1] - events[..., 0])[0]
        for chunk in torch.arange(len(level_of)).split(max(1, _PAIRS // count)):
            part = Points(*(getattr(points, name)[chunk] for name in ("position", "stride", "nearest", "farthest")))
            eligible = eligible_points(part, events, label_ids, center_radius)[0][0]
            shortest = torch.where(eligible, durations, torch.inf).min(dim=1, keepdim=True).values
            won = eligible & (durations <= shortest + SAME_LENGTH)
            eligible_count.index_add_(0, level_of[chunk], eligible.long())
            won_count.index_add_(0, level_of[chunk], won.long())
    return Coverage(eligible_count.T.numpy(), won_count.T.numpy())
