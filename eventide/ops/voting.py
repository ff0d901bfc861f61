"""Boundaries from all candidates of an event: each says where they are, and how sure it is.

Variance voting (He et al., Bounding Box Regression with Uncertainty, CVPR 2019, section 3.3): a kept segment's
boundaries become the mean of those of the candidates of its class that overlap it, weighted by nearness, score and,
where it is known, one over the variance of the boundary.
"""

from __future__ import annotations

import numpy as np

from eventide.ops.compiled import compiled

NEARNESS = 0.1  # a candidate of overlap t weighs exp(-(1 - t)^2 / NEARNESS)
LEAST_VARIANCE = 1e-3  # of a boundary, in grid steps squared: no candidate may outweigh all others


def vote_boundaries(
    kept: np.ndarray,
    kept_label_ids: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    label_ids: np.ndarray,
    std: np.ndarray | None,
    threshold: float,
) -> np.ndarray:
    """New boundaries (M, 2) float32 of the kept segments (M, 2) of one recording.

    Args:
        kept, kept_label_ids: segments that suppression left, on the grid, and their classes (M,).
        segments, scores, label_ids: all candidates before suppression, (N, 2), (N,), (N,).
        std: standard deviations of their starts and ends (N, 2) in grid steps; None: all are equally sure.
        threshold: tIoU from which a candidate has a say. A segment that none overlaps so much stays as it is.
    """
    variance = np.ones((len(segments), 2)) if std is None else np.asarray(std, np.float64) ** 2 + LEAST_VARIANCE
    arrays = (np.ascontiguousarray(array, np.float64) for array in (kept, segments))
    ours, theirs = (array.reshape(-1, 2) for array in arrays)
    classes = (np.asarray(ids, np.int64) for ids in (kept_label_ids, label_ids))
    voted = _vote(ours, theirs, np.asarray(scores, np.float64), *classes, variance, threshold, NEARNESS)
    return voted.astype(np.float32)


@compiled
def _vote(kept, segments, scores, kept_label_ids, label_ids, variance, threshold, nearness):  # type: ignore[no-untyped-def]
    voted = kept.copy()
    for i in range(len(kept)):
        start, end = kept[i, 0], kept[i, 1]
        total, moved = np.zeros(2), np.zeros(2)
        for j in range(len(segments)):
            if label_ids[j] != kept_label_ids[i]:
                continue
            shared = min(end, segments[j, 1]) - max(start, segments[j, 0])
            if not shared > 0:
                continue
            overlap = shared / ((end - start) + (segments[j, 1] - segments[j, 0]) - shared)
            if overlap >= threshold:
                weight = scores[j] * np.exp(-((1 - overlap) ** 2) / nearness)
                for side in range(2):
                    total[side] += weight / variance[j, side]
                    moved[side] += weight / variance[j, side] * segments[j, side]
        for side in range(2):
            if total[side] > 0:
                voted[i, side] = moved[side] / total[side]
    return voted
