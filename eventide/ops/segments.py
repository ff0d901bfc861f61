"""Which annotated segments count."""

from __future__ import annotations

import numpy as np

from eventide.ops.compiled import compiled


def unique_segments(segments: np.ndarray, label_ids: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """Which events of one recording count as ground truth: (G,) bool.

    Going through them in order, an event is dropped if it is shorter than `tolerance`, or if start and end are both
    within `tolerance` of an event of the same class that was kept before it.
    """
    segments = np.ascontiguousarray(segments, dtype=np.float64).reshape(-1, 2)
    label_ids = np.ascontiguousarray(label_ids, dtype=np.int64)
    long_enough = segments[:, 1] - segments[:, 0] >= tolerance
    return _drop_repeats(segments, label_ids, long_enough, tolerance)


@compiled
def _drop_repeats(segments, label_ids, keep, tolerance):  # type: ignore[no-untyped-def]
    for i in range(len(segments)):
        for j in range(i):
            if not keep[i]:
                break
            if (
                keep[j]
                and label_ids[i] == label_ids[j]
                and abs(segments[i, 0] - segments[j, 0]) <= tolerance
                and abs(segments[i, 1] - segments[j, 1]) <= tolerance
            ):
                keep[i] = False
    return keep


def point_times(segments: np.ndarray, position: str) -> np.ndarray:
    """The time of the point event that stands for each of `segments` (G, 2), at its start, centre or end: (G,).

    A point event annotated as such has start == end, so its time is the same at every position.
    """
    if position == "centre":
        return segments[:, 0] + 0.5 * (segments[:, 1] - segments[:, 0])
    return segments[:, {"start": 0, "end": 1}[position]].copy()


def unique_points(times: np.ndarray, label_ids: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """Which point events of one recording, at `times` (G,), count: (G,) bool.

    Going through them in order, an event is dropped if it is within `tolerance` of an event of the same class that was
    kept before it.
    """
    both = np.repeat(np.ascontiguousarray(times, dtype=np.float64).reshape(-1, 1), 2, axis=1)
    label_ids = np.ascontiguousarray(label_ids, dtype=np.int64)
    return _drop_repeats(both, label_ids, np.ones(len(both), dtype=np.bool_), tolerance)
