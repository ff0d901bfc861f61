"""Fusion of class-agnostic segments with the class scores of another model."""

from __future__ import annotations

import numpy as np


def fuse_external_scores(
    scores: np.ndarray, class_scores: np.ndarray, topk: int, max_seg_num: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the best segments of one recording the best classes of an external classifier.

    Every one of the best `max_seg_num` segments is repeated for each of the `topk` best classes, with the square root
    of the product of both scores (as published for ActivityNet, with 200 segments and 2 classes). The labels that the
    segments had before play no part.

    Args:
        scores: (N,) scores of the segments, >= 0.
        class_scores: (classes,) scores of the whole recording, >= 0; index = label id.

    Returns:
        (M,) int64, which segment each is, scores (M,) float32 and label ids (M,) int64, by falling score;
        M = min(N, max_seg_num) * min(topk, classes).
    """
    class_scores = np.asarray(class_scores, dtype=np.float64).reshape(-1)
    best = np.argsort(scores, kind="stable")[::-1][: max(max_seg_num, 0)]
    best_classes = np.argsort(class_scores, kind="stable")[::-1][:topk]
    fused = np.sqrt(class_scores[best_classes, None] * np.asarray(scores, dtype=np.float64)[None, best]).reshape(-1)
    order = np.argsort(-fused, kind="stable")
    return (
        np.tile(best, len(best_classes))[order],
        fused.astype(np.float32)[order],
        np.repeat(best_classes, len(best)).astype(np.int64)[order],
    )
