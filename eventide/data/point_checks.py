"""What a check of a data set says about point events: how near to one another those of one class lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from eventide.ops.timeline import seconds_to_grid
from eventide.types import Recording, Timeline


def gaps_of(recording: Recording, one_class: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of points that follow one another in a class: their rows (P, 2), and the seconds between them (P,).

    `one_class`: all classes count as one. The start of an event is its time.
    """
    times = recording.segments[:, 0]
    label_ids = np.zeros_like(recording.label_ids) if one_class else recording.label_ids
    order = np.lexsort((times, label_ids))
    pairs = np.stack((order[:-1], order[1:]), axis=1)[label_ids[order[:-1]] == label_ids[order[1:]]]
    return pairs, times[pairs[:, 1]] - times[pairs[:, 0]]


def smallest_gaps(recordings: Iterable[Recording]) -> dict[int, float]:
    """Seconds between the two nearest points of each class that has two in one recording, by label id."""
    smallest: dict[int, float] = {}
    for recording in recordings:
        pairs, gaps = gaps_of(recording)
        for label_id, gap in zip(recording.label_ids[pairs[:, 0]].tolist(), gaps.tolist(), strict=True):
            smallest[label_id] = min(gap, smallest.get(label_id, np.inf))
    return smallest


def close_pairs_warning(
    placed: Iterable[tuple[Recording, Timeline, int]], stride: int, labels: Sequence[str], one_class: bool = False
) -> str:
    """What to say about points of one class that cannot both be peaks of the heatmap; empty where there are none.

    An event is found at the position nearest to it, `stride` grid steps from the next, and of two neighbouring
    positions at most one is a peak. `placed` are recordings, every event a point, with the timelines and the lengths of
    their grids.
    """
    count, longest, example = 0, 0.0, ""
    for recording, timeline, length in placed:
        pairs, _ = gaps_of(recording, one_class)
        grid = seconds_to_grid(recording.segments[:, 0], timeline.fps, timeline.feat_stride, timeline.num_frames)
        nearest = np.round(grid / stride).clip(0, -(-length // stride) - 1)  # as ops.heatmap.heatmap_targets has it
        close = pairs[nearest[pairs[:, 1]] - nearest[pairs[:, 0]] < 2]
        if len(close) and not example:
            first, second = recording.segments[close[0], 0].tolist()
            label = labels[recording.label_ids[close[0, 0]]]
            example = f"{label!r} in {recording.id!r} at {first:.10g} and {second:.10g} s"
        if len(close):
            count, longest = count + len(close), max(longest, stride * timeline.feat_stride / timeline.fps)
    if not count:
        return ""
    return (
        f"{count} pair(s) of points of one class are nearest to the same or to neighbouring grid steps ({longest:.4g} "
        f"s each), where only one of the two can be found; only points two steps ({2 * longest:.4g} s) or more apart "
        f"are always told apart: for example {example}"
    )
