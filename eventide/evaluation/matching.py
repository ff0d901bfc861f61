"""What segment and point matching share: who may match whom, in which order, and the average precision of verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eventide.evaluation.events import GroundTruth, Predictions
from eventide.ops.compiled import compiled


@dataclass(frozen=True)
class Matches:
    """Every prediction of a known class, by class and within it by falling score, with its verdict per threshold."""

    order: np.ndarray  # (M,) index of each into the predictions
    class_offsets: np.ndarray  # (C + 1,) where each class begins and ends in `order`
    matched: np.ndarray  # (M, K) index into the ground truth of the event that the prediction takes, -1: it takes none
    num_ground_truth: np.ndarray  # (C,)

    @property
    def true_positive(self) -> np.ndarray:
        """(M, K) bool."""
        return self.matched >= 0

    def average_precisions(self) -> np.ndarray:
        """Interpolated AP (K, C), 0 for a class without predictions."""
        precisions: np.ndarray = _average_precisions(self.true_positive, self.class_offsets, self.num_ground_truth)
        return precisions


@dataclass(frozen=True)
class Cells:
    """Ground truth by (class, recording), the cells, and predictions in the order in which they are visited."""

    order: np.ndarray  # (M,) index into the predictions: by class, then by falling score; unknown classes left out
    class_offsets: np.ndarray  # (C + 1,) where each class begins and ends in `order`
    cell: np.ndarray  # (M,) the cell of each prediction in order, -1 where its recording has no event of its class
    truth_order: np.ndarray  # (G,) index into the ground truth: by cell, within it as the recording lists them
    cell_offsets: np.ndarray  # (cells + 1,) where each cell begins and ends in `truth_order`


def make_cells(
    ground_truth: GroundTruth,
    predictions: Predictions,
    truth_class: np.ndarray,
    predicted_class: np.ndarray,
    num_classes: int,
    first_of_equals: Literal["earlier", "later"],
) -> Cells:
    """Sort both sides by class and recording.

    `truth_class` (G,) is 0 ... C - 1; `predicted_class` (N,) too, or -1 for predictions that are left out.
    `first_of_equals` says which of the predictions with one score comes first: the earlier or the later in the file.
    """
    num_recordings = len(ground_truth.recordings)
    position = {name: i for i, name in enumerate(ground_truth.recordings)}
    recording_of = np.array([position.get(name, -1) for name in predictions.recordings], dtype=np.int64)

    truth_key = truth_class * num_recordings + ground_truth.recording_index
    truth_order = np.argsort(truth_key, kind="stable")
    cells, cell_starts = np.unique(truth_key[truth_order], return_index=True)

    if first_of_equals == "earlier":
        order = np.argsort(-predictions.scores, kind="stable")
    else:
        order = np.argsort(predictions.scores, kind="stable")[::-1]
    order = order[predicted_class[order] >= 0]
    order = order[np.argsort(_short(predicted_class[order], num_classes), kind="stable")]
    by_class = predicted_class[order]
    recording = recording_of[predictions.recording_index[order]]
    key = by_class * num_recordings + recording
    cell = np.minimum(np.searchsorted(cells, key), max(len(cells) - 1, 0))
    has_truth = (recording >= 0) & (cells[cell] == key) if len(cells) else np.zeros(len(order), dtype=bool)
    return Cells(
        order=order,
        class_offsets=np.searchsorted(by_class, np.arange(num_classes + 1)),
        cell=np.where(has_truth, cell, -1),
        truth_order=truth_order,
        cell_offsets=np.append(cell_starts, len(truth_key)),
    )


def as_events(chosen: np.ndarray, truth_order: np.ndarray) -> np.ndarray:
    """Indices (M, K) into the ground truth from places (M, K) in an order of it (G,); -1 stays -1."""
    return np.append(truth_order, -1)[chosen]


def _short(keys: np.ndarray, num_keys: int) -> np.ndarray:
    """Keys in 16 bits where they fit: numpy then sorts by radix, in linear time."""
    return keys.astype(np.uint16) if num_keys <= 2**16 else keys


@compiled
def _average_precisions(true_positive, class_offsets, num_truth):  # type: ignore[no-untyped-def]
    """Interpolated AP (K, C) from verdicts (M, K): each true positive adds 1 / events times the best precision from
    there on.

    Walking from the last prediction to the first, that best precision is a running maximum.
    """
    num_classes, num_thresholds = len(num_truth), true_positive.shape[1]
    precision = np.zeros((num_thresholds, num_classes))
    for c in range(num_classes):
        first, stop = class_offsets[c], class_offsets[c + 1]
        for t in range(num_thresholds):
            found = 0
            for i in range(first, stop):
                found += true_positive[i, t]
            best, area = 0.0, 0.0
            for i in range(stop - 1, first - 1, -1):
                best = max(best, found / (i - first + 1))
                if true_positive[i, t]:
                    area += best
                    found -= 1
            precision[t, c] = area / max(num_truth[c], 1)
    return precision


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis; 0 where there are no classes."""
    means: np.ndarray = values.mean(axis=-1) if values.shape[-1] else np.zeros(values.shape[:-1])
    return means
