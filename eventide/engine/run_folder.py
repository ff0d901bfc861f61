"""The folder of one training run: what lies where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from eventide.engine.checkpoint import list_checkpoints
from eventide.ops.files import remove_temporary_files
from eventide.types import EventideError, UsageError


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

    def newest(self) -> Path | None:
        """The newest checkpoint."""
        return next(iter(list_checkpoints(self.checkpoints)), None)

    def holds_run(self) -> bool:
        """Whether a run has written here."""
        return (
            any(path.exists() for path in (self.config, self.metrics, self.best))
            or list_checkpoints(self.checkpoints) != []
        )

    def open(self, resume: str | None) -> None:
        """Make the folder.

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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within the context this process alone writes here; the lock ends with the process, however it ends.

        Raises:
            EventideError: another process is training in this folder.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no such locks
            yield
            return
        with (self.path / "lock").open("w") as file, _not_in_children(file):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EventideError(f"another process is training in {self.path}; wait for it or stop it") from None
            except OSError:  # a file system without locks
                pass
            remove_temporary_files(self.path)
            yield


@contextmanager
def _not_in_children(file: TextIO) -> Iterator[None]:
    """Close `file` in processes that are forked within the context: loader processes outlive a killed training by some
    seconds, and would hold its lock.
    """
    _held.add(file)
    try:
        yield
    finally:
        _held.discard(file)


_held: set[TextIO] = set()


def _let_go() -> None:
    for file in _held:
        file.close()  # nothing is written to it; the lock stays with the parent
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
