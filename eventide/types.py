"""The few dataclasses that travel between rooms. Imports nothing of ours, and no torch at run time.

Shape legend used everywhere: B batch, T time, C channels, L pyramid levels, N candidates, G ground-truth events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the command line reads this module before anything else, so it stays light
    import numpy as np
    from torch import Tensor

EventKind = Literal["segments", "points"]


class EventideError(Exception):
    """A problem the user can mend: one clear message that says what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with code 1.
    """


class UsageError(EventideError):
    """Wrong use: a bad option, path or configuration. The command line exits with code 2."""


class AlreadySaidError(EventideError):
    """A problem that another process reports: the command line exits as that one does and prints nothing."""

    def __init__(self, message: str, is_usage: bool = False) -> None:
        super().__init__(message)
        self.is_usage = is_usage


@dataclass(frozen=True)
class Timeline:
    """How the positions of one feature grid map to seconds.

    Grid position g (0 is the first vector) stands for second (g * feat_stride + 0.5 * num_frames) / fps.
    `feat_stride` and `num_frames` count source frames; `duration` is in seconds, None where it is not known.
    """

    fps: float
    feat_stride: float
    num_frames: float
    duration: float | None = None


@dataclass(frozen=True)
class Recording:
    """One annotated recording, in seconds; no features."""

    id: str
    subset: str
    fps: float | None
    duration: float | None
    segments: np.ndarray  # (G, 2) float64, start and end in seconds; of a point event both are its time
    label_ids: np.ndarray  # (G,) int64
    is_point: np.ndarray | None = None  # (G,) bool, annotated as `time`, not as `segment`; None: no event is


@dataclass
class Sample:
    """One sequence ready for the model: features on their grid, events on the same grid.

    A point event is the segment from its time less the width of its target to its time plus that width.
    """

    id: str
    features: Tensor  # (T, C) float32
    segments: Tensor  # (G, 2) float32, grid positions
    label_ids: Tensor  # (G,) int64
    timeline: Timeline


@dataclass
class Batch:
    """Several samples, padded at the end with zeros to one length, that of the longest of them or more."""

    ids: list[str]
    features: Tensor  # (B, C, T) float32
    mask: Tensor  # (B, T) bool, True where a vector is real
    lengths: list[int]  # valid vectors per sequence, known on the host
    segments: Tensor  # (B, G, 2) float32, grid positions; rows beyond a sequence's events are zero
    label_ids: Tensor  # (B, G) int64, -1 beyond a sequence's events
    timelines: list[Timeline]

    def to(self, device: Any) -> Batch:
        """The same batch with its tensors on `device`."""
        return Batch(
            self.ids,
            self.features.to(device, non_blocking=True),
            self.mask.to(device, non_blocking=True),
            self.lengths,
            self.segments.to(device, non_blocking=True),
            self.label_ids.to(device, non_blocking=True),
            self.timelines,
        )

    def rows(self, start: int, stop: int) -> Batch:
        """The sequences from `start` to before `stop`, as long as they are here."""
        kept = slice(start, stop)
        return Batch(
            self.ids[kept],
            self.features[kept],
            self.mask[kept],
            self.lengths[kept],
            self.segments[kept],
            self.label_ids[kept],
            self.timelines[kept],
        )


@dataclass
class PyramidOutput:
    """Raw outputs of a detector, one entry per pyramid level that has heads, finest first."""

    logits: list[Tensor]  # L x (B, T_l, classes)
    # L x (B, T_l, 2), distances to start and end in strides of the level, >= 0; for point events (B, T_l, classes),
    # where the event of a class lies relative to the position, in grid steps
    offsets: list[Tensor]
    masks: list[Tensor]  # L x (B, T_l) bool
    distributions: list[Tensor] | None = None  # L x (B, T_l, 2, bins), logits of the two distances; None: has none
    # (L,) float32, with distributions: the distance that the last bin stands for, in strides
    spans: Tensor | None = None
    # L x (B, T_l) bool, positions whose events a window over a long recording reports; None: all of them
    reported: list[Tensor] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> PyramidOutput:
        """The same outputs with every tensor but the masks changed."""
        return replace(
            self,
            logits=[change(x) for x in self.logits],
            offsets=[change(x) for x in self.offsets],
            distributions=None if self.distributions is None else [change(x) for x in self.distributions],
        )


@dataclass
class Candidates:
    """Decoded events of one recording before suppression, on the feature grid; of a point event start equals end."""

    segments: np.ndarray  # (N, 2) float32, grid positions
    scores: np.ndarray  # (N,) float32
    label_ids: np.ndarray  # (N,) int64
    std: np.ndarray | None = None  # (N, 2) float32, standard deviation of start and end in grid steps
    quantiles: np.ndarray | None = None  # (N, 2, Q) float32, of start and end, grid positions

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> Candidates:
        """Those at `rows`: indices or a mask."""
        return Candidates(
            self.segments[rows],
            self.scores[rows],
            self.label_ids[rows],
            None if self.std is None else self.std[rows],
            None if self.quantiles is None else self.quantiles[rows],
        )

    def moved(self, steps: int) -> Candidates:
        """The same events that many grid steps later."""
        quantiles = None if self.quantiles is None else self.quantiles + self.quantiles.dtype.type(steps)
        return replace(self, segments=self.segments + self.segments.dtype.type(steps), quantiles=quantiles)


@dataclass
class Detections:
    """Events found in one recording, sorted by falling score."""

    segments: np.ndarray  # (N, 2) float32, seconds; of a point event start equals end
    scores: np.ndarray  # (N,) float32
    label_ids: np.ndarray  # (N,) int64
    labels: list[str] = field(default_factory=list)  # names of all classes, index = label id; may be empty
    kind: EventKind = "segments"
    segment_std: np.ndarray | None = None  # (N, 2) float32, standard deviation of start and end in seconds
    quantiles: np.ndarray | None = None  # (N, 2, Q) float32, of start and end in seconds
    quantile_levels: tuple[float, ...] = ()  # Q

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> Detections:
        """Those at `rows`: indices or a mask."""
        return replace(
            self,
            segments=self.segments[rows],
            scores=self.scores[rows],
            label_ids=self.label_ids[rows],
            segment_std=None if self.segment_std is None else self.segment_std[rows],
            quantiles=None if self.quantiles is None else self.quantiles[rows],
        )

    def to_list(self) -> list[dict[str, Any]]:
        """The detections as records of the results JSON: segment or time in seconds, label, label_id, score; with
        uncertain boundaries `segment_std` [start, end] and `quantiles` {level: [start, end]}, both in seconds.
        """
        return [self._record(index) for index in range(len(self))]

    def _record(self, index: int) -> dict[str, Any]:
        start, end = self.segments[index].tolist()
        label_id = int(self.label_ids[index])
        record: dict[str, Any] = {"time": start} if self.kind == "points" else {"segment": [start, end]}
        record["label"] = self.labels[label_id] if label_id < len(self.labels) else str(label_id)
        record["label_id"] = label_id
        record["score"] = float(self.scores[index])
        if self.segment_std is not None:
            record["segment_std"] = self.segment_std[index].tolist()
        if self.quantiles is not None:
            levels = zip(self.quantile_levels, self.quantiles[index].T.tolist(), strict=True)
            record["quantiles"] = {f"{level:g}": boundaries for level, boundaries in levels}
        return record
