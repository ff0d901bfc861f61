"""The folder of one training run: what lies where, who may use it, and its log files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from eventide.engine.checkpoint import list_checkpoints
from eventide.engine.files import remove_temporary_files, write_text_atomically
from eventide.types import UsageError


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @classmethod
    def named(cls, output_folder: str, config_path: Path, name: str | None) -> RunFolder:
        """`<output_folder>/<config name>_<NAME>`, or `<config name>` without a name.

        Raises:
            UsageError: the name is no plain folder name.
        """
        if name is not None and (not name or name in (".", "..") or any(bad in name for bad in "/\\\0")):
            raise UsageError(f"--output {name!r}: give a plain name; it becomes a folder in output_folder")
        stem = config_path.stem
        return cls(Path(output_folder) / (f"{stem}_{name}" if name else stem))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def holds_run(self) -> bool:
        """Whether a run has written here."""
        return (
            any(path.exists() for path in (self.config, self.metrics, self.best))
            or list_checkpoints(self.checkpoints) != []
        )

    def open(self, resume: str | None) -> None:
        """Make the folder and clear away what a killed writer left.

        Raises:
            UsageError: it holds a run and nobody asked to resume it, or it cannot be made.
        """
        if resume is None and self.holds_run():
            raise UsageError(
                f"{self.path} already holds a run; continue it with --resume auto, choose another name with --output, "
                "or remove the folder"
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {self.path}: {error.strerror or error}") from None
        remove_temporary_files(self.path)


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, complete up to the moment the process ends, however it ends."""

    def __init__(self, path: Path, step: int) -> None:
        """Keep the lines of the first `step` steps, those that led to the state being resumed, and drop all later ones."""
        kept = [line for line, entry in _lines(path) if 0 < int(entry.get("step", 0)) <= step] if step else []
        write_text_atomically(path, "".join(f"{line}\n" for line in kept))
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
