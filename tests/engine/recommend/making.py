"""Situations for tests of recommendations: one plain situation, and anything about it changed by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from eventide.data.disagreement import Disagreement
from eventide.data.survey import Survey
from eventide.engine.machine import Machine
from eventide.engine.recommend.advice import Advice, recommend
from eventide.engine.recommend.situation import Data, Grid, Situation
from eventide.types import Recording

SOURCES = {name: f"<{name}>" for name in ("events", "noisy", "longest", "goals", "machine")}


def gpu(size: float, count: int = 1, torch_version: str = "2.13.0") -> Machine:
    """A machine with GPUs of `size` GB."""
    return Machine(count, int(size * 1e9), "", 8, torch_version)


CPU = Machine(0, 64 * 10**9, "", 8, "2.13.0", bfloat16=False)


def data_of(lengths: np.ndarray, events: np.ndarray, *, labels: int = 3, stride: float = 8.0, **other: Any) -> Data:
    """Recordings of `lengths` vectors with segments of `events` grid steps, at 24 frames per second."""
    step = stride / 24
    recordings = tuple(
        Recording(f"r{i}", "training", 24.0, length * step, np.zeros((0, 2)), np.zeros(0, np.int64))
        for i, length in enumerate(lengths)
    )
    counts = tuple(len(part) for part in np.array_split(events, labels))
    found = Survey(
        ("training",),
        ("validation",),
        tuple(f"c{i}" for i in range(labels)),
        counts,
        recordings,
        events * step,
        np.arange(len(events)) % len(recordings),
        0,
        24.0,
    )
    grid = Grid(stride, stride, 24.0, ("<stride>", "<frames>", "<fps>"))
    return Data("a.json", found, (), grid, lengths.astype(float), events, **other)


def situation(**changes: Any) -> Situation:
    """Segments with clean labels, 1,500 vectors, quality and speed, one GPU of 24 GB, no files."""
    plain: dict[str, Any] = {
        "events": "segments",
        "noisy": False,
        "longest": 1500,
        "goals": frozenset({"quality", "speed"}),
        "machine": gpu(24),
        "data": Data(),
        "because": SOURCES,
    }
    return Situation(**{**plain, **changes})


def advised(**changes: Any) -> Advice:
    """The advice for `situation(**changes)`."""
    return recommend(situation(**changes))


def values(**changes: Any) -> dict[str, Any]:
    """Key or option to value of that advice."""
    return {key: choice.value for key, choice in advised(**changes).choices.items()}


def two_annotators(difference: float, pairs: int = 50) -> Disagreement:
    """Two annotators whose boundaries differ with this standard deviation (seconds)."""
    return Disagreement(pairs, 1, 2, 5, 0.1, difference, 3 * difference)
