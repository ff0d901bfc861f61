"""What every measurement is told, and what it says on the way."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Called with the phase ("round 2 of 5"), what is being done in it, turns done and turns in all.
OnProgress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class MeasureOptions:
    """How to measure."""

    device: str = "auto"
    amp: bool = False
    runs: int = 5
    warm_up: int | None = None  # rounds that do not count; None: 1, on GPUs 3
    threads: int | None = None  # of the CPU; None: torch's choice


def warm_up_rounds(options: MeasureOptions, device: torch.device) -> int:
    """Rounds before those that count: a GPU chooses kernels and raises its clock on the way."""
    if options.warm_up is not None:
        return options.warm_up
    return 1 if device.type == "cpu" else 3


class Turns:
    """Counts turns for the progress display."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self.total, self.done, self._on_progress = total, 0, on_progress

    def __call__(self, phase: str, what: str) -> None:
        """A turn begins."""
        self._on_progress(phase, what, self.done, self.total)
        self.done += 1

    def finish(self) -> None:
        self._on_progress("done", "", self.total, self.total)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
