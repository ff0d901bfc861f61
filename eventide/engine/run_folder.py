"""The folder of one training run: what lies where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eventide.engine.checkpoint import list_checkpoints
from eventide.ops.files import remove_temporary_files
from eventide.ops.locks import HAS_LOCKS, lock, not_in_children
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
        if not HAS_LOCKS:
            yield
            return
        with (self.path / "lock").open("w") as file, not_in_children(file):
            if lock(file, wait=False) is False:
                raise EventideError(f"another process is training in {self.path}; wait for it or stop it")
            remove_temporary_files(self.path)
            yield
