"""What an annotation file says about a task: kinds and lengths of events, classes, recordings, frame rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eventide.data.annotations import AnnotationSet, split
from eventide.ops.segments import unique_segments
from eventide.types import EventideError, Recording

# Names under which data sets keep what they evaluate on, in the order in which they are looked for.
EVALUATION_SUBSETS = ("validation", "val", "test", "testing")


@dataclass(frozen=True)
class Survey:
    """Facts about the training recordings of an annotation file. Times are seconds."""

    train_split: tuple[str, ...]
    val_split: tuple[str, ...]
    labels: tuple[str, ...]
    counts: tuple[int, ...]  # training events per label id
    recordings: tuple[Recording, ...]  # of train_split
    durations: np.ndarray  # (N,) float64, of the training events that are segments and count
    recording_of: np.ndarray  # (N,) int64, which recording each of them is in
    points: int  # training events that are annotated as `time`
    fps: float | None  # the one rate of all recordings, None where they differ or say nothing

    @property
    def events(self) -> int:
        """Training events that count."""
        return len(self.durations) + self.points

    @property
    def empty_classes(self) -> list[int]:
        """Label ids without an example in training."""
        return [label_id for label_id, count in enumerate(self.counts) if count == 0]

    @property
    def has_rates(self) -> bool:
        """Whether every training recording says its frame rate."""
        return all(recording.fps is not None for recording in self.recordings)

    def lengths(self) -> np.ndarray:
        """(R,) float64: length of every training recording; where it has no `duration`, the end of its last event."""
        return np.array([_length(recording) for recording in self.recordings])


def survey(annotations: AnnotationSet, train_split: str | Sequence[str] = "training") -> Survey:
    """The facts of an annotation file that was read without problems.

    Events that training leaves out (repeated, or shorter than 1 ms without being point events) do not count.

    Raises:
        EventideError: a subset that does not exist, or no event in training.
    """
    names = (train_split,) if isinstance(train_split, str) else tuple(train_split)
    recordings = tuple(split(annotations, names))
    counts = np.zeros(len(annotations.labels), dtype=np.int64)
    durations, counted, points = [np.zeros(0)], [], 0
    for recording in recordings:
        is_point = point_rows(recording)
        kept = unique_segments(recording.segments, recording.label_ids) & ~is_point
        durations.append(recording.segments[kept, 1] - recording.segments[kept, 0])
        counted.append(int(kept.sum()))
        points += int(is_point.sum())
        np.add.at(counts, recording.label_ids[kept | is_point], 1)
    rates = {recording.fps for recording in annotations.recordings.values()}
    found = Survey(
        names,
        evaluation_split(annotations, names),
        tuple(annotations.labels),
        tuple(counts.tolist()),
        recordings,
        np.concatenate(durations),
        np.repeat(np.arange(len(recordings)), counted),
        points,
        rates.pop() if len(rates) == 1 else None,
    )
    if not found.events:
        listed = ", ".join(f"{name!r} ({count})" for name, count in annotations.subsets().items())
        raise EventideError(
            f"{annotations.path}: no events in subset {' + '.join(names)}, so there is nothing to go by; "
            f"subsets in the file: {listed} (--split)"
        )
    return found


def point_rows(recording: Recording) -> np.ndarray:
    """(G,) bool: which events of a recording are annotated as `time`."""
    return np.zeros(len(recording.label_ids), dtype=bool) if recording.is_point is None else recording.is_point


def evaluation_split(annotations: AnnotationSet, training: Sequence[str]) -> tuple[str, ...]:
    """The subset to evaluate on: one with a usual name, else the first other one, else that of training."""
    known = {name.lower() for name in training}
    others = [name for name in annotations.subsets() if name.lower() not in known]
    usual = [name for wanted in EVALUATION_SUBSETS for name in others if name.lower() == wanted]
    return tuple((usual or others or list(training))[:1])


def _length(recording: Recording) -> float:
    if recording.duration is not None:
        return recording.duration
    return float(recording.segments[:, 1].max()) if len(recording.segments) else 0.0
