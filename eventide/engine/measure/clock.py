"""Seconds on a device: of a whole call, and of the parts of a network within it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def now(device: torch.device) -> float:
    """Seconds of the wall clock, once the device has finished what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


class PartClock:
    """Adds up the time within some modules of a network, without making the host wait for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._begun: list[Any] = []
        self._spans: list[tuple[Any, Any]] = []

    @contextmanager
    def watching(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Within the block every call of these modules counts; they must not lie within one another."""
        handles = []
        for module in modules:
            handles.append(module.register_forward_pre_hook(self._begin))
            handles.append(module.register_forward_hook(self._end))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def read(self) -> float:
        """Seconds so far, and start afresh. The device must have finished (`now` waits for it)."""
        if self.device.type == "cuda":
            total = sum(start.elapsed_time(stop) for start, stop in self._spans) / 1e3
        else:
            total = sum(stop - start for start, stop in self._spans)
        self._begun, self._spans = [], []
        return float(total)

    def _begin(self, *_: Any) -> None:
        self._begun.append(self._mark())

    def _end(self, *_: Any) -> None:
        self._spans.append((self._begun.pop(), self._mark()))

    def _mark(self) -> Any:
        """A point in time: an event in the device's queue on CUDA, seconds elsewhere."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event
