"""The facts that a recommendation goes by, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eventide.data.disagreement import Disagreement
from eventide.data.feature_survey import FeatureFacts
from eventide.data.survey import Survey
from eventide.engine.machine import Machine
from eventide.types import EventKind

Goal = Literal["quality", "speed", "prototype", "deployment"]
Labels = Literal["clean", "noisy"]
GOALS: tuple[Goal, ...] = ("quality", "speed", "prototype", "deployment")


@dataclass(frozen=True)
class Grid:
    """How feature vectors lie in time."""

    feat_stride: float  # frames; -1: every file covers its recording
    num_frames: float
    fps: float | None  # one rate for all; None: each recording has its own
    because: tuple[str, str, str]  # of the three

    @property
    def step(self) -> float | None:
        """Seconds from one vector to the next, where it is one number."""
        return None if self.fps is None or self.feat_stride <= 0 else self.feat_stride / self.fps


@dataclass(frozen=True)
class Data:
    """What files say; None for what was not given."""

    annotations: str | None = None
    survey: Survey | None = None
    features: tuple[FeatureFacts, ...] = ()
    grid: Grid | None = None
    lengths: np.ndarray | None = None  # (R,) vectors per training recording
    events: np.ndarray | None = None  # (N,) training segments in grid steps
    disagreement: Disagreement | None = None
    classes: int | None = None  # given by hand
    input_dim: int | None = None  # given by hand
    num_frames: float | None = None  # given by hand
    fps: float | None = None  # given by hand


@dataclass(frozen=True)
class Situation:
    """Everything that the decision tree looks at. `because` has the source of each fact, by its name here."""

    events: EventKind
    noisy: bool
    longest: int  # vectors of the longest training recording
    goals: frozenset[Goal]
    machine: Machine
    data: Data
    because: dict[str, str]

    @property
    def num_events(self) -> int | None:
        """Training events, None where no annotations were given."""
        return None if self.data.survey is None else self.data.survey.events

    @property
    def num_recordings(self) -> int | None:
        """Training recordings, None where no annotations were given."""
        return None if self.data.survey is None else len(self.data.survey.recordings)


@dataclass(frozen=True)
class Choice:
    """One key of the configuration (or an option of train.py, such as `--amp`), its value and why."""

    key: str
    value: object
    reason: str
