"""What a check of a data set found: problems, warnings and the tables, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from eventide.types import EventKind

# Percentiles of event durations in the table of pyramid levels.
PERCENTILES = (5, 25, 50, 75, 95)


@dataclass
class SplitSummary:
    """The recordings of one split. Hours and feature vectors are 0 or None where they are unknown."""

    name: str
    subsets: list[str]
    recordings: int
    missing: int
    negatives: int  # recordings without events
    events: int
    hours: float
    vectors_min: int | None = None
    vectors_median: float | None = None
    vectors_max: int | None = None


@dataclass
class ClassSummary:
    """Events of one class, per split."""

    label_id: int
    label: str
    events: dict[str, int]
    smallest_gap: float | None = None  # seconds between its two nearest points; segments have none


@dataclass
class LevelSummary:
    """Training events that have an eligible point on one pyramid level; an event may count on two levels.

    Distances are grid steps; `seconds` are percentiles of the durations of these events, by percentile.
    """

    level: int
    stride: int
    nearest: float
    farthest: float
    events: int
    share: float
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class PointSummary:
    """Training events that get no positive point, and so are not learnt: counts and their share of all."""

    events: int = 0
    without_point: int = 0  # no point lies in their centre window on a level that answers for their length
    lost_to_shorter: int = 0  # all their points learn shorter events
    share: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)  # durations of these events, by percentile


@dataclass
class CheckReport:
    """The result of `check_dataset`. `problems` must be mended before training; `warnings` should be looked at.

    `levels` and `points` are of segments, `grid_step` is of point events.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    splits: list[SplitSummary] = field(default_factory=list)
    classes: list[ClassSummary] = field(default_factory=list)
    events: EventKind = "segments"  # what the events are
    grid_step: float | None = None  # seconds from one position of the heatmap to the next, the longest of any recording
    levels: list[LevelSummary] = field(default_factory=list)
    points: PointSummary = field(default_factory=PointSummary)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def percentiles(values: np.ndarray) -> dict[str, float]:
    """The table's percentiles of some values, by name (p5, ...); empty without values."""
    if len(values) == 0:
        return {}
    found = np.percentile(values, PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(PERCENTILES, found, strict=True)}
