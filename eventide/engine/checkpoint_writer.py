"""Checkpoints written while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from eventide.engine.checkpoint import save_checkpoint
from eventide.types import EventideError


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread beside the training or at once.

    A checkpoint that cannot be written (disk full, folder gone or read-only) costs no more than itself: `say` tells
    so, once for each reason, the earlier ones are left alone, the training goes on, and the next one is tried again.
    """

    def __init__(self, keep: int, background: bool, say: Callable[[str], object]) -> None:
        self.keep, self.background, self.say = keep, background, say
        self.last: Path | None = None  # the newest that is complete
        self.failure: str = ""  # why the newest is not
        self._said = ""  # the reason that was said last, while nothing could be written since
        self._mistake: Exception | None = None  # ours, not the disk's
        self._thread: threading.Thread | None = None

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write tensors and plain containers; they may change as soon as this returns."""
        self.wait()
        if not self.background:
            self._write(path, content)
            return
        self._thread = threading.Thread(target=self._in_thread, args=(path, copied(content)), name="checkpoint")
        self._thread.start()

    def _in_thread(self, path: Path, content: Mapping[str, Any]) -> None:
        try:
            self._write(path, content)
        except Exception as error:  # `wait` raises it where it is seen
            self._mistake = error

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        try:
            refuse_gone_folder(path)
            save_checkpoint(path, content, self.keep)
        except (EventideError, OSError, RuntimeError) as error:  # PyTorch reports some failed writes as RuntimeError
            self._note_failure(path, error)
            return
        self.last, self.failure = path, ""
        if self._said:
            self._said = ""
            self.say(f"checkpoints are written again: {path}")

    def _note_failure(self, path: Path, error: Exception) -> None:
        self.failure = (str(error).splitlines() or [type(error).__name__])[0]
        if str(path) not in self.failure:
            self.failure = f"{path}: cannot be written: {self.failure}"
        reason = self.failure.replace(str(path), "")
        if reason != self._said:
            self._said = reason
            kept = f"the last one is {self.last}" if self.last else "there is none yet"
            self.say(f"warning: no checkpoint: {self.failure}; training goes on, {kept}, the next is tried again")

    def wait(self) -> None:
        """Return once nothing is being written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._mistake is not None:
            mistake, self._mistake = self._mistake, None
            raise mistake

    def close(self) -> None:
        """Let what is being written be written."""
        self.wait()

    def finish(self) -> None:
        """Wait, and raise EventideError where the newest checkpoint could not be written."""
        self.wait()
        if self.failure:
            kept = f"The last one is {self.last}: make" if self.last else "There is none: make"
            raise EventideError(
                f"no checkpoint: {self.failure}. {kept} room or mend the folder, then go on with --resume auto"
            )


def refuse_gone_folder(path: Path) -> None:
    """Raise EventideError where the folder of `path` is not there: making it anew would write below a mount that went
    away.
    """
    if not path.parent.is_dir():
        raise EventideError(f"{path}: cannot be written: the folder {path.parent} is gone")


def copied(value: Any) -> Any:
    """The same containers with copies of all tensors in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
