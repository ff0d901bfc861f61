"""What was measured: one row per kind of work and size, filled in turn by turn, so that it can be read at any time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any, Literal

from eventide.engine.measure.operations import Operations

Work = Literal["training", "inference"]


@dataclass(frozen=True)
class Timing:
    """Seconds of one run."""

    whole: float  # training: a step; inference: features in, detections in seconds out
    network: float | None = None  # inference: the forward pass alone
    attention: float | None = None  # of that, in the attention modules


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a run."""

    above_input: int  # above weights and input
    in_all: int  # weights, input and, in training, optimiser and averaged weights included; not the bare program


@dataclass
class Row:
    """One kind of work at one size: `batch` sequences of `length` vectors."""

    work: Work
    length: int
    batch: int
    operations: Operations | None = None
    memory: Memory | None = None
    timings: list[Timing] = field(default_factory=list)
    error: str | None = None  # why it could not be measured

    @property
    def name(self) -> str:
        return f"{self.work}, T = {self.length:,}, batch {self.batch}"

    @property
    def seconds(self) -> float | None:
        """Median of a run."""
        return _median([timing.whole for timing in self.timings])

    @property
    def network_seconds(self) -> float | None:
        """Median of the forward pass; None in training."""
        return _median([timing.network for timing in self.timings if timing.network is not None])

    @property
    def attention_share(self) -> float | None:
        """Median share of the forward pass that attention modules took; None in training."""
        timings = [timing for timing in self.timings if timing.network and timing.attention is not None]
        return _median([(timing.attention or 0.0) / (timing.network or 1.0) for timing in timings])

    def to_dict(self, matrix_rate: float | None = None) -> dict[str, Any]:
        """Plain numbers; what was not measured is None. `matrix_rate` is in operations per second."""
        seconds, operations, memory = self.seconds, self.operations, self.memory
        computed = self.network_seconds or seconds  # post-processing multiplies no matrices
        speed = None if computed is None or operations is None else operations.total / computed
        return {
            "work": self.work,
            "length": self.length,
            "batch": self.batch,
            "runs": len(self.timings),
            "seconds": seconds,
            "fastest_seconds": min((timing.whole for timing in self.timings), default=None),
            "network_seconds": self.network_seconds,
            "all_seconds": [timing.whole for timing in self.timings],
            "recordings_per_second": None if seconds is None else self.batch / seconds,
            "vectors_per_second": None if seconds is None else self.batch * self.length / seconds,
            "operations": None if operations is None else operations.total,
            "operations_per_recording": None if operations is None else operations.total / self.batch,
            "attention_operations_share": None if operations is None else _share(operations.attention, operations),
            "product_operations_share": None if operations is None else _share(operations.products, operations),
            "attention_time_share": self.attention_share,
            "operations_per_second": speed,
            "matrix_rate_share": None if speed is None or not matrix_rate else speed / matrix_rate,
            "memory_bytes": None if memory is None else memory.above_input,
            "memory_in_all_bytes": None if memory is None else memory.in_all,
            "error": self.error,
        }


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _share(part: int, operations: Operations) -> float:
    return part / operations.total if operations.total else 0.0
