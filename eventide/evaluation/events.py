"""Events of many recordings as columns: what the evaluator compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eventide.ops.segments import unique_segments
from eventide.types import Detections, EventideError, Recording


@dataclass(frozen=True)
class Events:
    """E events of R recordings. A class is named by its label id, by its label, or by both."""

    recordings: list[str]  # R recording ids, also of those without events
    recording_index: np.ndarray  # (E,) int64, which of `recordings`
    segments: np.ndarray  # (E, 2) float64, start and end in seconds
    label_ids: np.ndarray | None = None  # (E,) int64; None: the file has labels only
    label_index: np.ndarray | None = None  # (E,) int64, which of `labels`; None: the file has ids only
    labels: list[str] = field(default_factory=list)  # the names that occur

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

    @staticmethod
    def from_recordings(recordings: Sequence[Recording], labels: Sequence[str] = ()) -> GroundTruth:
        """Ground truth of annotated recordings; `labels` names the classes (index = label id).

        Labels that are only the numbers of their classes, as stand for classes without a name, are no labels.
        """
        kept = [unique_segments(recording.segments, recording.label_ids) for recording in recordings]
        label_ids = concatenate([r.label_ids[k] for r, k in zip(recordings, kept, strict=True)], np.int64)
        named = all(i < len(labels) and labels[i] != str(i) for i in np.unique(label_ids).tolist())
        return GroundTruth(
            recordings=[recording.id for recording in recordings],
            recording_index=np.repeat(np.arange(len(recordings)), [int(k.sum()) for k in kept]),
            segments=concatenate([r.segments[k] for r, k in zip(recordings, kept, strict=True)], np.float64, 2),
            label_ids=label_ids,
            label_index=label_ids if named else None,
            labels=list(labels) if named else [],
            num_dropped=sum(int((~k).sum()) for k in kept),
        )


@dataclass(frozen=True)
class Predictions(Events):
    """Detected events with their scores."""

    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (E,) float64

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
