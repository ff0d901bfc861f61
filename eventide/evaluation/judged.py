"""Detections with the verdict on each: what calibration counts in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from eventide.evaluation.calibration import best_f1_threshold, cost_of_missing, costs
from eventide.evaluation.events import GroundTruth, Predictions, concatenate
from eventide.evaluation.points import match_points
from eventide.evaluation.segments import match_segments
from eventide.types import Detections


@dataclass(frozen=True)
class Judged:
    """D detections and G events of some recordings, and which detection found which event."""

    recordings: list[str]  # R recording ids
    recording_index: np.ndarray  # (D,) which of `recordings`
    scores: np.ndarray  # (D,)
    label_ids: np.ndarray  # (D,)
    event: np.ndarray  # (D,) the event that the detection found, -1: none, the detection is wrong
    event_recording: np.ndarray  # (G,) which of `recordings`
    event_label_ids: np.ndarray  # (G,)
    event_segments: np.ndarray  # (G, 2) seconds
    segments: np.ndarray  # (D, 2) seconds
    quantiles: np.ndarray | None = None  # (D, 2, Q) seconds, of the boundaries; None: the model has none

    @property
    def right(self) -> np.ndarray:
        """(D,) bool, which detections found an event."""
        return self.event >= 0

    def of(self, recordings: np.ndarray) -> Judged:
        """The same of some recordings: `recordings` (R,) bool."""
        kept = recordings[self.recording_index]
        kept_events = recordings[self.event_recording]
        number = np.append(np.cumsum(kept_events) - 1, -1)  # of each event among those kept; the last stands for none
        return replace(
            self.take(kept),
            event=number[self.event[kept]],
            event_recording=self.event_recording[kept_events],
            event_label_ids=self.event_label_ids[kept_events],
            event_segments=self.event_segments[kept_events],
        )

    def take(self, rows: np.ndarray) -> Judged:
        """The same events with the detections at `rows` (a mask): the others find nothing."""
        return replace(
            self,
            recording_index=self.recording_index[rows],
            scores=self.scores[rows],
            label_ids=self.label_ids[rows],
            event=self.event[rows],
            segments=self.segments[rows],
            quantiles=None if self.quantiles is None else self.quantiles[rows],
        )

    def costs(self) -> np.ndarray:
        """(R,) negative log likelihood of the verdicts under the scores, of every recording (nats)."""
        number = len(self.recordings)
        found = np.bincount(self.recording_index[self.right], minlength=number)
        missed = np.bincount(self.event_recording, minlength=number) - found
        of_detections = np.bincount(self.recording_index, costs(self.scores, self.right), number)
        return of_detections + missed * cost_of_missing()

    def best_threshold(self, label_id: int | None = None) -> tuple[float, float]:
        """Score with the best F1 of a class, or of all classes together, and that F1."""
        if label_id is None:
            return best_f1_threshold(self.scores, self.right, len(self.event_recording))
        of_class = self.label_ids == label_id
        number = int((self.event_label_ids == label_id).sum())
        return best_f1_threshold(self.scores[of_class], self.right[of_class], number)


def judge(truth: GroundTruth, detections: Mapping[str, Detections], limit: float, num_classes: int) -> Judged:
    """Match detections to the events of the recordings in `truth`, whose label ids are the detections' own.

    The rule is that of mAP: within a class and recording by falling score, each event once. Segments are right from a
    tIoU of `limit` on, points up to `limit` seconds from their event.
    """
    found = {name: detections[name] for name in truth.recordings if name in detections}
    predictions = Predictions.from_detections(found)
    classes = truth.label_ids if truth.label_ids is not None else np.zeros(0, np.int64)
    predicted = predictions.label_ids if predictions.label_ids is not None else np.zeros(0, np.int64)
    match = match_points if truth.kind == "points" else match_segments
    matches = match(truth, predictions, classes, predicted, num_classes, np.array([limit]))
    event = np.full(len(predictions), -1)
    event[matches.order] = matches.matched[:, 0]
    position = {name: index for index, name in enumerate(truth.recordings)}
    place = np.array([position[name] for name in predictions.recordings], np.int64)
    quantiles = [d.quantiles for d in found.values() if d.quantiles is not None]
    return Judged(
        recordings=truth.recordings,
        recording_index=place[predictions.recording_index],
        scores=concatenate([d.scores for d in found.values()], np.float32),
        label_ids=predicted,
        event=event,
        event_recording=truth.recording_index,
        event_label_ids=classes,
        event_segments=truth.segments,
        segments=predictions.segments,
        quantiles=np.concatenate(quantiles) if len(quantiles) == len(found) > 0 else None,
    )
