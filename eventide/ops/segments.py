"""Arithmetic of segments: pure functions on arrays, in any unit."""

from __future__ import annotations

import numpy as np

from eventide.ops.compiled import compiled


def segment_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Temporal intersection over union of every pair: (N, 2) and (M, 2) -> (N, M) float64.

    A pair whose union is empty or negative (segments without length, or that end before they start) has 0, never NaN.
    """
    first = np.asarray(first, dtype=np.float64).reshape(-1, 1, 2)
    second = np.asarray(second, dtype=np.float64).reshape(1, -1, 2)
    inter = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    inter = np.maximum(inter, 0.0)
    union = (second[..., 1] - second[..., 0]) + (first[..., 1] - first[..., 0]) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


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
