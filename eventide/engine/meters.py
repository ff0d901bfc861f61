"""Running sums of a training: losses on their device, times on the host. Read only when something is printed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class LossMeter:
    """Means of the loss parts over the steps since the last reading; adding makes no host wait."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = 0

    def add(self, names: list[str], values: Tensor) -> None:
        """`values` (K,) are the parts named `names` of one good step."""
        self.names = names
        self.sums = values.clone() if self.sums is None else self.sums.add_(values)
        self.steps += 1

    def read(self) -> dict[str, float]:
        """The means, and start afresh; empty where no step was good."""
        if self.sums is None:
            return {}
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        self.sums, self.steps = None, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.names, self.steps = list(state["names"]), int(state["steps"])
        self.sums = None if state["sums"] is None else state["sums"].to(device)


class Stopwatch:
    """Where the time of a process goes: steps done, seconds in all, seconds waiting for data."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the present window."""
        self._since = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within counts as waiting for data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within counts for nothing (evaluation, checkpoints)."""
        before = time.perf_counter()
        yield
        self._since += time.perf_counter() - before

    def step(self) -> None:
        self._steps += 1

    def read(self) -> tuple[float, float]:
        """Steps per second and the share of time spent waiting, since the last reading; starts a new window."""
        elapsed = max(time.perf_counter() - self._since, 1e-9)
        rate, share = self._steps / elapsed, min(1.0, self._waited / elapsed)
        self.start()
        return rate, share


def duration_text(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
