"""Precision against recall at one tIoU threshold or tolerance, and the score at which detections are best read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eventide.evaluation.calibration import best_f1_threshold
from eventide.evaluation.events import GroundTruth, Predictions, match_classes
from eventide.evaluation.matching import Matches
from eventide.evaluation.points import match_points
from eventide.evaluation.segments import match_segments

RECALL_GRID = np.linspace(0.0, 1.0, 1001)


@dataclass(frozen=True)
class PrecisionRecall:
    """Curves of C classes at one threshold; a class without predictions has an empty curve."""

    rule: str  # what counts as found: "tIoU 0.5", "a tolerance of 0.5 s"
    classes: list[str]
    recall: list[np.ndarray]  # C arrays, rising
    precision: list[np.ndarray]  # C arrays, interpolated: the best precision at this recall or beyond, falling
    mean_precision: np.ndarray  # (1001,) mean over the classes at `RECALL_GRID`
    best_score: float  # score from which detections give the best F1 of all classes together; 0 without predictions
    best_f1: float

    @property
    def average_precision(self) -> list[float]:
        """AP of each class: the area under its curve."""
        return [
            float((np.diff(recall, prepend=0.0) * precision).sum())
            for recall, precision in zip(self.recall, self.precision, strict=True)
        ]


def precision_recall(ground_truth: GroundTruth, predictions: Predictions, threshold: float) -> PrecisionRecall:
    """Curves of every class of the ground truth, and the operating point with the best F1.

    `threshold` is a tIoU, or a tolerance in seconds where the ground truth holds points.
    """
    classes = match_classes(ground_truth, predictions)
    points = ground_truth.kind == "points"
    rule = f"a tolerance of {threshold:g} s" if points else f"tIoU {threshold:g}"
    match: Callable[..., Matches] = match_points if points else match_segments
    matches = match(
        ground_truth, predictions, classes.ground_truth, classes.predictions, len(classes.names), np.array([threshold])
    )
    recalls, precisions, mean = [], [], np.zeros(len(RECALL_GRID))
    for c in range(len(classes.names)):
        hits = matches.true_positive[matches.class_offsets[c] : matches.class_offsets[c + 1], 0]
        found = np.cumsum(hits)
        precision = found / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = found / max(int(matches.num_ground_truth[c]), 1)
        recalls.append(recall)
        precisions.append(precision)
        place = np.searchsorted(recall, RECALL_GRID - 1e-12)
        mean += np.append(precision, 0.0)[place] / len(classes.names)
    scores, right = predictions.scores[matches.order], matches.true_positive[:, 0]
    score, f1 = best_f1_threshold(scores, right, int(matches.num_ground_truth.sum()))
    return PrecisionRecall(rule, classes.names, recalls, precisions, mean, score, f1)
