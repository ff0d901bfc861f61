"""The few dataclasses that travel between rooms. Imports nothing of ours, and no torch at run time.

Shape legend used everywhere: B batch, T time, C channels, L pyramid levels, N candidates, G ground-truth events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line reads this module before anything else, so it stays light
    import numpy as np
    from torch import Tensor


class EventideError(Exception):
    """A problem the user can mend: one clear message that says what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with code 1.
    """


class UsageError(EventideError):
    """Wrong use: a bad option, path or configuration. The command line exits with code 2."""


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
    segments: np.ndarray  # (G, 2) float64, start and end in seconds
    label_ids: np.ndarray  # (G,) int64


@dataclass
class Sample:
    """One sequence ready for the model: features on their grid, events on the same grid."""

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


@dataclass
class PyramidOutput:
    """Raw outputs of a segment detector, one entry per pyramid level, finest first."""

    logits: list[Tensor]  # L x (B, T_l, classes)
    offsets: list[Tensor]  # L x (B, T_l, 2), distances to start and end in strides of the level, >= 0
    masks: list[Tensor]  # L x (B, T_l) bool


@dataclass
class Candidates:
    """Decoded segments of one recording before non-maximum suppression, on the feature grid."""

    segments: np.ndarray  # (N, 2) float32, grid positions
    scores: np.ndarray  # (N,) float32
    label_ids: np.ndarray  # (N,) int64


@dataclass
class Detections:
    """Events found in one recording, sorted by falling score."""

    segments: np.ndarray  # (N, 2) float32, seconds
    scores: np.ndarray  # (N,) float32
    label_ids: np.ndarray  # (N,) int64
    labels: list[str] = field(default_factory=list)  # names of all classes, index = label id; may be empty

    def __len__(self) -> int:
        return len(self.scores)

    def to_list(self) -> list[dict[str, Any]]:
        """The detections as records of the results JSON: segment in seconds, label, label_id, score."""
        return [
            {
                "segment": [float(start), float(end)],
                "label": self.labels[label_id] if label_id < len(self.labels) else str(label_id),
                "label_id": int(label_id),
                "score": float(score),
            }
            for (start, end), label_id, score in zip(
                self.segments.tolist(), self.label_ids.tolist(), self.scores.tolist(), strict=True
            )
        ]
