"""Events of many recordings as columns: what the evaluator compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eventide.ops.segments import point_times, unique_points, unique_segments
from eventide.types import Detections, EventideError, EventKind, Recording

PointPosition = Literal["start", "centre", "end"]


@dataclass(frozen=True)
class Events:
    """E events of R recordings. A class is named by its label id, by its label, or by both."""

    recordings: list[str]  # R recording ids, also of those without events
    recording_index: np.ndarray  # (E,) int64, which of `recordings`
    segments: np.ndarray  # (E, 2) float64, start and end in seconds; of a point event both are its time
    label_ids: np.ndarray | None = None  # (E,) int64; None: the file has labels only
    label_index: np.ndarray | None = None  # (E,) int64, which of `labels`; None: the file has ids only
    labels: list[str] = field(default_factory=list)  # the names that occur
    kind: EventKind | None = "segments"  # None: there are no events that say it

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def names_by_id(self) -> dict[int, str]:
        """Label of each label id, as far as both are known."""
        if self.label_ids is None or self.label_index is None:
            return {}
        ids, first = np.unique(self.label_ids, return_index=True)
        return {int(i): self.labels[self.label_index[j]] for i, j in zip(ids, first, strict=True)}


@dataclass(frozen=True)
class GroundTruth(Events):
    """Annotated events of the recordings of a split."""

    num_dropped: int = 0  # events left out: too short, or repeats of another
    num_other_kind: int = 0  # points left out where segments are scored; segments taken for points where points are

    @staticmethod
    def from_recordings(
        recordings: Sequence[Recording],
        labels: Sequence[str] = (),
        kind: EventKind = "segments",
        position: PointPosition = "centre",
    ) -> GroundTruth:
        """Ground truth of annotated recordings; `labels` names the classes (index = label id).

        Labels that are only the numbers of their classes, as stand for classes without a name, are no labels. Where
        points are scored, an annotated segment is a point at its `position`; where segments are, points are left out.
        """
        all_events = [_events_of(recording, kind, position) for recording in recordings]
        label_ids = concatenate([label_ids for _, label_ids, _ in all_events], np.int64)
        named = all(i < len(labels) and labels[i] != str(i) for i in np.unique(label_ids).tolist())
        num_points = sum(0 if r.is_point is None else int(r.is_point.sum()) for r in recordings)
        return GroundTruth(
            recordings=[recording.id for recording in recordings],
            recording_index=np.repeat(np.arange(len(recordings)), [len(ids) for _, ids, _ in all_events]),
            segments=concatenate([segments for segments, _, _ in all_events], np.float64, 2),
            label_ids=label_ids,
            label_index=label_ids if named else None,
            labels=list(labels) if named else [],
            kind=kind,
            num_dropped=sum(dropped for _, _, dropped in all_events),
            num_other_kind=num_points if kind == "segments" else sum(len(r.segments) for r in recordings) - num_points,
        )


def _events_of(recording: Recording, kind: EventKind, position: PointPosition) -> tuple[np.ndarray, np.ndarray, int]:
    """Segments (G, 2) and label ids (G,) of the events that count, and how many are too short or repeats."""
    segments, label_ids = recording.segments, recording.label_ids
    if kind == "points":
        times = point_times(segments, position)
        kept = unique_points(times, label_ids)
        return np.stack([times, times], axis=1)[kept], label_ids[kept], int((~kept).sum())
    if recording.is_point is not None:
        segments, label_ids = segments[~recording.is_point], label_ids[~recording.is_point]
    kept = unique_segments(segments, label_ids)
    return segments[kept], label_ids[kept], int((~kept).sum())


@dataclass(frozen=True)
class Predictions(Events):
    """Detected events with their scores."""

    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (E,) float64
    segment_std: np.ndarray | None = None  # (E, 2) float64, standard deviation of start and end in seconds, 0 unknown
    # (E, 2, 2) float64, of start and end the lowest and the highest quantile in seconds, NaN unknown
    intervals: np.ndarray | None = None
    interval_levels: tuple[float, float] | None = None  # of these; None: there are none, or not all have the same

    @staticmethod
    def from_detections(detections: Mapping[str, Detections]) -> Predictions:
        """Predictions of `{recording id: Detections}`; the label ids must be those of the ground truth."""
        found = list(detections.values())
        return Predictions(
            recordings=list(detections),
            recording_index=np.repeat(np.arange(len(found)), [len(d) for d in found]),
            segments=concatenate([d.segments for d in found], np.float64, 2),
            label_ids=concatenate([d.label_ids for d in found], np.int64),
            scores=concatenate([d.scores for d in found], np.float64),
            kind=found[0].kind if found else None,
        )


def concatenate(parts: Sequence[np.ndarray], dtype: type, columns: int | None = None) -> np.ndarray:
    """The parts one after another, as (E,) or (E, columns); also where there is none."""
    shape = (-1,) if columns is None else (-1, columns)
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part, dtype).ravel() for part in parts)]).reshape(shape)


@dataclass(frozen=True)
class Classes:
    """The classes of a ground truth in their fixed order, and which of them each event has."""

    names: list[str]  # (C,)
    label_ids: list[int] | None  # (C,); None where the annotations have no ids
    ground_truth: np.ndarray  # (G,) int64, 0 ... C - 1
    predictions: np.ndarray  # (N,) int64, -1 where the ground truth does not know the class
    by_label: bool  # matched by label, else by id


def match_classes(ground_truth: GroundTruth, predictions: Predictions) -> Classes:
    """Give every event its class: by label where both sides have labels, else by label id.

    The classes are those that occur in the ground truth, ordered by label id (by label where it has none).

    Raises:
        EventideError: one side has only labels and the other only ids.
    """
    by_label = ground_truth.label_index is not None and predictions.label_index is not None
    if not by_label and (ground_truth.label_ids is None or predictions.label_ids is None) and len(predictions):
        have, lack = ("ground truth", "predictions")
        if ground_truth.label_index is None:
            have, lack = lack, have
        raise EventideError(
            f"the {have} name their classes by label, the {lack} by label_id: nothing can be compared; "
            f"add labels to the {lack} or a label_id to the {have}"
        )
    ids: list[int] | None = None
    if ground_truth.label_ids is not None:
        label_ids, truth_class = np.unique(ground_truth.label_ids, return_inverse=True)
        ids = [int(i) for i in label_ids]
        names = [ground_truth.names_by_id.get(i, str(i)) for i in ids]
    else:
        index = np.zeros(0, np.int64) if ground_truth.label_index is None else ground_truth.label_index
        names = sorted({ground_truth.labels[i] for i in np.unique(index)})
        position = {name: i for i, name in enumerate(names)}
        truth_class = np.array([position.get(label, -1) for label in ground_truth.labels], np.int64)[index]
    return Classes(names, ids, truth_class, _prediction_classes(predictions, names, ids, by_label), by_label)


def _prediction_classes(
    predictions: Predictions, names: list[str], label_ids: list[int] | None, by_label: bool
) -> np.ndarray:
    """Class (N,) of every prediction, -1 where the ground truth has no such class."""
    if len(predictions) == 0:
        return np.zeros(0, np.int64)
    if by_label:
        position = {name: i for i, name in enumerate(names)}
        of_label = np.array([position.get(label, -1) for label in predictions.labels], np.int64)
        return of_label[predictions.label_index]
    of_id = {label_id: i for i, label_id in enumerate(label_ids or [])}
    ids, inverse = np.unique(np.asarray(predictions.label_ids), return_inverse=True)
    return np.array([of_id.get(int(i), -1) for i in ids], np.int64)[inverse]


def count_events(ground_truth: GroundTruth, predictions: Predictions, classes: Classes) -> dict[str, int]:
    """Recordings and events of both sides, and those that count only in part or not at all."""
    inside = set(ground_truth.recordings)
    outside = np.array([name not in inside for name in predictions.recordings], dtype=bool)
    return {
        "recordings": len(ground_truth.recordings),
        "recordings_with_predictions": int((~outside).sum()),
        "ground_truth": len(ground_truth),
        "ground_truth_dropped": ground_truth.num_dropped,
        "ground_truth_of_other_kind": ground_truth.num_other_kind,
        "predictions": len(predictions),
        "predictions_outside_split": int(outside[predictions.recording_index].sum()) if len(predictions) else 0,
        "predictions_of_unknown_class": int((classes.predictions < 0).sum()),
    }
