"""Point mAP at tolerances, recall and timing errors, with the numbers of the published E2E-Spot evaluator.

Per class: detections of all recordings are visited by falling score; one is a true positive at a tolerance if, of the
events of its recording that no better detection has taken at that tolerance, the nearest lies within it. AP is the area
under the interpolated precision.

Ties: of detections with one score the earlier in the file comes first, of events at one distance the one listed
earlier is taken. Times are compared with a slack of 1e-6 s, so that frame / fps loses nothing. Classes without
detections have AP and recall 0. Nothing is ever NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eventide.evaluation.class_metrics import ClassMetrics
from eventide.evaluation.events import Events, GroundTruth, Predictions, count_events, match_classes
from eventide.evaluation.matching import Matches, as_events, make_cells, mean_over_classes
from eventide.ops.compiled import compiled

SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class PointMetrics(ClassMetrics):
    """K tolerances, C classes of the ground truth; shares between 0 and 1, errors in seconds."""

    tolerances: np.ndarray  # (K,) in `unit`
    unit: Literal["seconds", "frames"]
    num_matched: np.ndarray  # (K, C) events that a detection takes
    error_sums: np.ndarray  # (K, C) seconds, sum of the absolute timing errors of these

    @property
    def recall(self) -> np.ndarray:
        """(K, C) share of the events that a detection takes."""
        shares: np.ndarray = self.num_matched / np.maximum(self.num_ground_truth, 1)
        return shares

    @property
    def mean_recall(self) -> np.ndarray:
        """(K,) mean recall over the classes."""
        return mean_over_classes(self.recall)

    @property
    def timing_error(self) -> list[float | None]:
        """Mean absolute timing error of all true positives at each of the K tolerances, seconds; None without any."""
        return _means(self.error_sums.sum(axis=1), self.num_matched.sum(axis=1))

    @property
    def per_class_timing_error(self) -> list[list[float | None]]:
        """The same per class, K lists of C."""
        return [_means(*row) for row in zip(self.error_sums, self.num_matched, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; rows are tolerances, columns are `classes`, errors are in seconds."""
        return {
            "tolerances": self.tolerances.tolist(),
            "tolerance_unit": self.unit,
            "mAP": self.mAP.tolist(),
            "average_mAP": self.average_mAP,
            "recall": self.mean_recall.tolist(),
            "timing_error": self.timing_error,
            "classes": self.classes,
            "label_ids": self.label_ids,
            "per_class_AP": self.per_class_AP.tolist(),
            "per_class_recall": self.recall.tolist(),
            "per_class_timing_error": self.per_class_timing_error,
            **self.counted(),
        }


def _means(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Quotients; None where nothing was counted."""
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]


@dataclass(frozen=True)
class PointMatches(Matches):
    """Verdicts on detected points, and how far each true positive lies from its event."""

    errors: np.ndarray  # (M, K) seconds, absolute; 0 where the detection is no true positive


def evaluate_points(
    ground_truth: GroundTruth,
    predictions: Predictions,
    tolerances: Sequence[float] | np.ndarray,
    fps: Mapping[str, float] | None = None,
) -> PointMetrics:
    """Score detected points against annotated ones. No ground truth or no predictions give zeros, never NaN.

    Tolerances are seconds; with `fps` (frame rate of every recording of the ground truth) they are frames, and each
    time is rounded to its frame first. Detections in recordings that the ground truth does not list are false
    positives; those of classes without any ground truth are only counted (`counts`).

    Raises:
        ValueError: no tolerances, one that is negative or not finite, or events that are no points.
        EventideError: the two sides name their classes in ways that cannot be compared.
    """
    values = np.asarray(tolerances, dtype=np.float64).reshape(-1)
    if len(values) == 0 or not ((values >= 0) & np.isfinite(values)).all():
        raise ValueError("tolerances are finite numbers from 0, and at least one is needed")
    classes = match_classes(ground_truth, predictions)
    found = match_points(
        ground_truth, predictions, classes.ground_truth, classes.predictions, len(classes.names), values, fps
    )
    return PointMetrics(
        tolerances=values,
        unit="seconds" if fps is None else "frames",
        classes=classes.names,
        label_ids=classes.label_ids,
        per_class_AP=found.average_precisions(),
        num_matched=_sums(found.true_positive.astype(np.int64), found.class_offsets),
        error_sums=_sums(found.errors, found.class_offsets),
        num_ground_truth=found.num_ground_truth,
        num_predictions=np.diff(found.class_offsets),
        counts=count_events(ground_truth, predictions, classes),
        by_label=classes.by_label,
    )


def _sums(values: np.ndarray, class_offsets: np.ndarray) -> np.ndarray:
    """Sums (K, C) of the rows (M, K) of each class."""
    sums = np.zeros((len(class_offsets) - 1, values.shape[1]), values.dtype)
    np.add.at(sums, np.repeat(np.arange(len(sums)), np.diff(class_offsets)), values)
    return sums.T


def match_points(
    ground_truth: GroundTruth,
    predictions: Predictions,
    truth_class: np.ndarray,
    predicted_class: np.ndarray,
    num_classes: int,
    tolerances: np.ndarray,
    fps: Mapping[str, float] | None = None,
) -> PointMatches:
    """Decide for every detection and tolerance whether it is a true positive, and of which event.

    `truth_class` (G,) is 0 ... C - 1; `predicted_class` (N,) too, or -1 for detections that are left out.
    """
    cells = make_cells(ground_truth, predictions, truth_class, predicted_class, num_classes, first_of_equals="earlier")
    seconds, truth_seconds = times_of(predictions), times_of(ground_truth)
    places, truth_places = seconds, truth_seconds
    if fps is not None:
        places, truth_places = to_frames(predictions, fps), to_frames(ground_truth, fps)
    # within a cell by time; the place in the recording's own list settles ties
    cell_of_truth = np.repeat(np.arange(len(cells.cell_offsets) - 1), np.diff(cells.cell_offsets))
    by_time = np.lexsort((truth_places[cells.truth_order], cell_of_truth))
    truth_order = cells.truth_order[by_time]
    chosen = _match(places[cells.order], cells.cell, truth_places[truth_order], by_time, cells.cell_offsets, tolerances)
    matched = as_events(chosen, truth_order)
    distances = np.abs(seconds[cells.order, None] - np.append(truth_seconds, 0.0)[matched])
    return PointMatches(
        order=cells.order,
        class_offsets=cells.class_offsets,
        matched=matched,
        num_ground_truth=np.bincount(truth_class, minlength=num_classes),
        errors=np.where(matched >= 0, distances, 0.0),
    )


def times_of(events: Events) -> np.ndarray:
    """Time (E,) of every event, seconds."""
    if (events.segments[:, 0] != events.segments[:, 1]).any():
        raise ValueError("segments cannot be scored as points; a point event starts when it ends")
    return events.segments[:, 0]


def to_frames(events: Events, fps: Mapping[str, float]) -> np.ndarray:
    """The nearest frame (E,) of every event, halves up; 0 in recordings that `fps` does not know."""
    rates = np.array([fps.get(name, 0.0) for name in events.recordings], np.float64)
    frames: np.ndarray = np.floor(times_of(events) * rates[events.recording_index] + 0.5 + SLACK)
    return frames


@compiled
def _match(times, cells, truth, rank, cell_offsets, tolerances):  # type: ignore[no-untyped-def]
    """The event (M, K) that each detection (M,) takes at each tolerance, as an index into `truth`, or -1.

    `cells` (M,) names the slice of `truth` (G,) that shares class and recording, -1 where there is none; a slice rises.
    Of events at one distance the one with the lower `rank` (G,) is taken.
    """
    chosen = np.full((len(times), len(tolerances)), -1, dtype=np.int64)
    taken = np.zeros((len(truth), len(tolerances)), dtype=np.bool_)
    for i in range(len(times)):
        if cells[i] < 0:
            continue
        first, stop = cell_offsets[cells[i]], cell_offsets[cells[i] + 1]
        middle = first + np.searchsorted(truth[first:stop], times[i])
        for t in range(len(tolerances)):
            reach = tolerances[t] + SLACK
            left, right, nearest = middle - 1, middle, np.inf
            while left >= first and times[i] - truth[left] <= reach:
                if not taken[left, t]:
                    nearest = times[i] - truth[left]
                    break
                left -= 1
            while right < stop and truth[right] - times[i] <= reach:
                if not taken[right, t]:
                    nearest = min(nearest, truth[right] - times[i])
                    break
                right += 1
            if nearest > reach:
                continue
            best = -1
            while left >= first and times[i] - truth[left] <= nearest + SLACK:
                if not taken[left, t] and (best < 0 or rank[left] < rank[best]):
                    best = left
                left -= 1
            while right < stop and truth[right] - times[i] <= nearest + SLACK:
                if not taken[right, t] and (best < 0 or rank[right] < rank[best]):
                    best = right
                right += 1
            taken[best, t] = True
            chosen[i, t] = best
    return chosen
