"""Running sums of a training: losses on their device, times on the host. Read only when something is printed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class LossMeter:
    """Means of the loss parts over the steps since the last reading; adding makes no host wait."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = self.clipped = 0

    def add(self, names: list[str], values: Tensor, clipped: bool = False) -> None:
        """`values` (K,) are the parts named `names` of one good step, whose gradients were `clipped` or not."""
        self.names = names
        self.sums = values.clone() if self.sums is None else self.sums.add_(values)
        self.steps += 1
        self.clipped += clipped

    def read(self) -> dict[str, float]:
        """The means and `clipped_share`, and start afresh; empty where no step was good."""
        if self.sums is None:
            return {}
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        means["clipped_share"] = self.clipped / self.steps
        self.sums, self.steps, self.clipped = None, 0, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "sums": self.sums, "steps": self.steps, "clipped": self.clipped}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.names, self.steps, self.clipped = list(state["names"]), int(state["steps"]), int(state.get("clipped", 0))
        self.sums = None if state["sums"] is None else state["sums"].to(device)


@dataclass(frozen=True)
class EpochSums:
    """What an epoch has been like."""

    steps: int  # good ones
    loss: float  # mean of the final loss over them; NaN where there is none
    hard_steps: int  # good steps with gradients far above the limit
    learnt: list[int]  # positions that learnt each class


class EpochMeter:
    """Final loss and learnt positions per class over the present epoch and the one before; no host wait in a step."""

    def __init__(self) -> None:
        self.steps = self.hard_steps = 0
        self.loss: Tensor | None = None  # ()
        self.learnt: Tensor | None = None  # (2, classes), in the epoch before and in this one

    def add(self, loss: Tensor, per_class: Tensor, hard: bool) -> None:
        """One good step: its final loss (), learnt positions (classes,), gradients far above the limit or not."""
        if self.loss is None or self.learnt is None:
            self.loss = torch.zeros_like(loss)
            self.learnt = per_class.new_zeros(2, len(per_class)) if self.learnt is None else self.learnt
        self.loss += loss
        self.learnt[1] += per_class
        self.steps += 1
        self.hard_steps += hard

    def dead_classes(self) -> int:
        """Classes without a learnt position in the epoch before and in what is done of this one."""
        return 0 if self.learnt is None else int((self.learnt.sum(0) == 0).sum())

    def end(self) -> EpochSums:
        """The sums of the epoch that is over; the next one begins."""
        loss = float("nan") if self.loss is None or not self.steps else self.loss.item() / self.steps
        learnt = [] if self.learnt is None else [int(count) for count in self.learnt[1].tolist()]
        sums = EpochSums(self.steps, loss, self.hard_steps, learnt)
        self.steps, self.hard_steps, self.loss = 0, 0, None
        if self.learnt is not None:
            self.learnt = torch.stack((self.learnt[1], torch.zeros_like(self.learnt[1])))
        return sums

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "hard_steps": self.hard_steps, "loss": self.loss, "learnt": self.learnt}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.steps, self.hard_steps = int(state["steps"]), int(state["hard_steps"])
        self.loss = None if state["loss"] is None else state["loss"].to(device)
        self.learnt = None if state["learnt"] is None else state["learnt"].to(device)


class Window(NamedTuple):
    """Some steps in a row: how many, the seconds they took, and the seconds of these that they waited for data."""

    steps: int
    seconds: float
    waited: float

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds

    @property
    def share(self) -> float:
        """Share of the time that was spent waiting."""
        return min(1.0, self.waited / self.seconds)


class Stopwatch:
    """Where the time of a training goes: steps done, seconds in all, seconds waiting for data."""

    def __init__(self) -> None:
        self.last_wait = 0.0  # seconds of this process, in the present step
        self.start()

    def start(self) -> None:
        """Start the present window."""
        self._since = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within is what this process waits for its data of a step."""
        before = time.perf_counter()
        yield
        self.last_wait = time.perf_counter() - before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within counts for nothing (evaluation, checkpoints)."""
        before = time.perf_counter()
        yield
        self._since += time.perf_counter() - before

    def step(self, waited: float) -> None:
        """A step is done, in which the process that waited longest did so for `waited` seconds."""
        self._steps += 1
        self._waited += waited

    def read(self) -> Window:
        """The steps since the last reading; starts a new window."""
        window = Window(self._steps, max(time.perf_counter() - self._since, 1e-9), self._waited)
        self.start()
        return window


def duration_text(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
