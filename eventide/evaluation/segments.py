"""Segment mAP at tIoU thresholds and Recall@kx, with the numbers of the published ActivityNet-style evaluator.

Per class: predictions of all recordings are visited by falling score; one is a true positive at a threshold if, among
the ground-truth segments of its recording that no better prediction has taken at that threshold, the one it overlaps
most reaches it. AP is the area under the interpolated precision. Recall@kx counts the ground-truth segments that any of
the best k * n predictions of a recording reaches, n being the number of ground-truth segments of that class there.

Ties: of predictions with one score the later one comes first, of ground-truth segments with one overlap the later one
is taken (what sorting and reversing gives). Classes without predictions have AP and recall 0. Nothing is ever NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventide.evaluation.class_metrics import ClassMetrics
from eventide.evaluation.events import GroundTruth, Predictions, count_events, match_classes
from eventide.evaluation.matching import Matches, as_events, make_cells, mean_over_classes
from eventide.ops.compiled import compiled


@dataclass(frozen=True, kw_only=True)
class SegmentMetrics(ClassMetrics):
    """K thresholds, C classes of the ground truth, J values of k for recall; shares between 0 and 1."""

    tiou_thresholds: np.ndarray  # (K,)
    top_k: tuple[int, ...]  # J
    per_class_recall: np.ndarray  # (K, J, C)

    @property
    def recall(self) -> np.ndarray:
        """(K, J) mean Recall@kx over the classes."""
        return mean_over_classes(self.per_class_recall)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; rows are thresholds, columns are `classes`."""
        recall = self.recall
        return {
            "tiou_thresholds": self.tiou_thresholds.tolist(),
            "mAP": self.mAP.tolist(),
            "average_mAP": self.average_mAP,
            **{f"recall_at_{k}x": recall[:, j].tolist() for j, k in enumerate(self.top_k)},
            "classes": self.classes,
            "label_ids": self.label_ids,
            "per_class_AP": self.per_class_AP.tolist(),
            **self.counted(),
        }


@dataclass(frozen=True)
class SegmentMatches(Matches):
    """Verdicts on predicted segments, and what the best of them reach."""

    reached: np.ndarray  # (K, J, C) ground-truth events that the top k * n predictions reach


def evaluate_segments(
    ground_truth: GroundTruth,
    predictions: Predictions,
    tiou_thresholds: Sequence[float] | np.ndarray,
    top_k: Sequence[int] = (1, 5),
) -> SegmentMetrics:
    """Score predictions against ground truth. No ground truth or no predictions give zeros, never NaN.

    Predictions of recordings that the ground truth does not list are false positives; those of classes without any
    ground truth have no class to count in and are only counted (`counts`).

    Raises:
        ValueError: no thresholds, or one outside (0, 1].
        EventideError: the two sides name their classes in ways that cannot be compared.
    """
    thresholds = np.asarray(tiou_thresholds, dtype=np.float64).reshape(-1)
    if len(thresholds) == 0 or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError("tIoU thresholds lie above 0 and up to 1, and at least one is needed")
    classes = match_classes(ground_truth, predictions)
    found = match_segments(
        ground_truth, predictions, classes.ground_truth, classes.predictions, len(classes.names), thresholds, top_k
    )
    return SegmentMetrics(
        tiou_thresholds=thresholds,
        top_k=tuple(int(k) for k in top_k),
        classes=classes.names,
        label_ids=classes.label_ids,
        per_class_AP=found.average_precisions(),
        per_class_recall=found.reached / np.maximum(found.num_ground_truth, 1),
        num_ground_truth=found.num_ground_truth,
        num_predictions=np.diff(found.class_offsets),
        counts=count_events(ground_truth, predictions, classes),
        by_label=classes.by_label,
    )


def match_segments(
    ground_truth: GroundTruth,
    predictions: Predictions,
    truth_class: np.ndarray,
    predicted_class: np.ndarray,
    num_classes: int,
    thresholds: np.ndarray,
    top_k: Sequence[int] = (),
) -> SegmentMatches:
    """Decide for every prediction and threshold whether it is a true positive.

    `truth_class` (G,) is 0 ... C - 1; `predicted_class` (N,) too, or -1 for predictions that are left out.
    """
    cells = make_cells(ground_truth, predictions, truth_class, predicted_class, num_classes, first_of_equals="later")
    chosen, reached = _match(
        predictions.segments[cells.order],
        cells.cell,
        ground_truth.segments[cells.truth_order],
        cells.cell_offsets,
        thresholds,
        np.asarray(top_k, dtype=np.int64),
    )
    per_class = np.zeros((num_classes, len(thresholds), len(top_k)))
    np.add.at(per_class, truth_class[cells.truth_order], reached)
    return SegmentMatches(
        order=cells.order,
        class_offsets=cells.class_offsets,
        matched=as_events(chosen, cells.truth_order),
        num_ground_truth=np.bincount(truth_class, minlength=num_classes),
        reached=per_class.transpose(1, 2, 0),
    )


@compiled
def _match(segments, cells, truth, cell_offsets, thresholds, top_k):  # type: ignore[no-untyped-def]
    """The event (M, K) that each prediction (M, 2) in order takes, as an index into `truth`, or -1, and whether each
    event (G, K, J) is reached by the top k * n.

    `cells` (M,) names the slice of `truth` (G, 2) that shares class and recording, -1 where there is none.
    """
    num_thresholds, num_k = len(thresholds), len(top_k)
    matched = np.full((len(segments), num_thresholds), -1, dtype=np.int64)
    taken = np.zeros((len(truth), num_thresholds), dtype=np.bool_)
    reached = np.zeros((len(truth), num_thresholds, num_k), dtype=np.bool_)
    seen = np.zeros(len(cell_offsets), dtype=np.int64)  # predictions of each cell so far
    most = np.empty(num_thresholds)
    chosen = np.empty(num_thresholds, dtype=np.int64)
    for i in range(len(segments)):
        if cells[i] < 0:
            continue
        start, end = segments[i, 0], segments[i, 1]
        first, stop = cell_offsets[cells[i]], cell_offsets[cells[i] + 1]
        rank = seen[cells[i]]
        seen[cells[i]] += 1
        most[:] = 0.0
        chosen[:] = -1
        for g in range(first, stop):
            inter = min(end, truth[g, 1]) - max(start, truth[g, 0])
            if not inter > 0.0:
                continue
            overlap = inter / ((truth[g, 1] - truth[g, 0]) + (end - start) - inter)
            for t in range(num_thresholds):
                if overlap < thresholds[t]:
                    continue
                if not taken[g, t] and overlap >= most[t]:
                    most[t], chosen[t] = overlap, g
                for k in range(num_k):
                    if rank < top_k[k] * (stop - first):
                        reached[g, t, k] = True
        for t in range(num_thresholds):
            if chosen[t] >= 0:
                taken[chosen[t], t] = True
                matched[i, t] = chosen[t]
    return matched, reached
