"""Predicting without a model: detections that follow from a recording's name, and processes that are threads."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eventide.engine.predict_run import Callbacks, Goal, Outcome, predict_to_files
from eventide.engine.processes import Launch
from eventide.types import Detections, EventideError

LABELS = ["clap", "jump"]
SETTINGS: dict[str, Any] = {"digests": {"the checkpoint": "abc"}, "test_cfg": {"max_seg_num": 7}}


@dataclass
class MadeUpWork:
    """`lengths` by recording id; `detected` lists what was predicted, `broken` what cannot be."""

    lengths: dict[str, int]
    batch_size: int = 1
    broken: tuple[str, ...] = ()
    changes: dict[str, float] = field(default_factory=dict)
    detected: list[str] = field(default_factory=list)
    pause: Callable[[str], object] = lambda name: None
    flavour: str = ""  # another one finds other things: the features were replaced

    def __post_init__(self) -> None:
        self.ids = list(self.lengths)
        order = sorted(range(len(self.ids)), key=lambda i: (-self.lengths[self.ids[i]], i))
        self.batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def cost(self, batch: int) -> int:
        return sum(self.lengths[self.ids[index]] for index in self.batches[batch])

    def stamp(self, index: int) -> list[float | None]:
        return [self.lengths[self.ids[index]], 25.0, None]

    def changed(self, index: int) -> float:
        return self.changes.get(self.ids[index], 0.0)

    def detect(self, batches: Sequence[int]) -> Iterator[list[tuple[str, Detections]]]:
        for number in batches:
            names = [self.ids[index] for index in self.batches[number]]
            for name in names:
                self.pause(name)
                if name in self.broken:
                    raise EventideError(f"{name}.npy: values are NaN")
            self.detected += names
            yield [(name, detections_of(self.flavour + name)) for name in names]


def detections_of(name: str) -> Detections:
    """Some detections, none for a few names."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    count = int(rng.integers(0, 6))
    starts = rng.uniform(0, 90, size=count)
    segments = np.stack([starts, starts + rng.uniform(0.1, 9, size=count)], axis=1).astype(np.float32)
    return Detections(segments, rng.random(count, dtype=np.float32), rng.integers(0, 2, size=count), list(LABELS))


@dataclass
class Said:
    """What the callbacks of one process were called with."""

    begun: list[tuple[int, int]] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def callbacks(self) -> Callbacks:
        return Callbacks(
            lambda finished, total: self.begun.append((finished, total)),
            lambda finished, total: self.progress.append((finished, total)),
            lambda error, finished, total: self.failures.append(str(error)),
        )


def predict_alone(
    work: MadeUpWork, output: Path, *, settings: dict[str, Any] = SETTINGS, said: Said | None = None, **goal: Any
) -> Outcome:
    """Predict in one process."""
    said = said or Said()
    return predict_to_files(work, settings, Goal(output, **goal), Launch(), said.callbacks())


def predict_in_threads(
    works: Sequence[MadeUpWork], output: Path, *, key: str = "start", settings: dict[str, Any] = SETTINGS, **goal: Any
) -> tuple[list[Outcome | Exception], list[Said]]:
    """One start of as many processes as there are works, each a thread; how each ended and what it said."""
    outcomes: list[Outcome | Exception] = [Outcome()] * len(works)
    said = [Said() for _ in works]

    def run(rank: int) -> None:
        launch = Launch("torchrun", rank, len(works), rank, len(works))
        try:
            outcomes[rank] = predict_to_files(
                works[rank], settings, Goal(output, **goal), launch, said[rank].callbacks(), key=key
            )
        except Exception as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, said
