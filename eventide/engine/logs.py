"""The numbers of a training for programs: `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from eventide.ops.files import write_text


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, complete up to the moment the process ends, however it ends."""

    def __init__(self, path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
        """Keep the entries that led to the state a run goes on from, and drop the others."""
        kept = [line for line, entry in _lines(path) if keep(entry)]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)  # a line at a time

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The whole lines of a metrics file; one that a kill cut off is left out."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append((line, entry))
    return found


class NoLog:
    """Stands for both where another process keeps them."""

    def write(self, *values: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorBoard:
    """Curves for TensorBoard; nothing is imported or written before the first number."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._step = folder, step
        self._writer: Any = None

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # what an interrupted run wrote beyond the step it goes on from is hidden
            self._writer = SummaryWriter(str(self._folder), purge_step=self._step + 1 if self._step else None)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
