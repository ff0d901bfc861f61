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

    A checkpoint that cannot be written (disk full, folder gone or read-only) costs no more than itself: `say` tells,
    the earlier ones are left alone, and the training goes on.
    """

    def __init__(self, keep: int, background: bool, say: Callable[[str], object]) -> None:
        self.keep, self.background, self.say = keep, background, say
        self.last: Path | None = None  # the newest that is complete
        self.failure: str = ""  # why the newest is not
        self._thread: threading.Thread | None = None

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write tensors and plain containers; they may change as soon as this returns."""
        self.wait()
        if not self.background:
            self._write(path, content)
            return
        self._thread = threading.Thread(target=self._write, args=(path, copied(content)), name="checkpoint")
        self._thread.start()

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        try:
            if not path.parent.is_dir():  # making it anew would write below a mount that went away
                raise EventideError(f"{path}: cannot be written: the folder {path.parent} is gone")
            save_checkpoint(path, content, self.keep)
        except (EventideError, RuntimeError) as error:  # PyTorch reports some failed writes as RuntimeError
            self.failure = str(error).splitlines()[0]
            kept = f"the last one is {self.last}" if self.last else "there is none yet"
            self.say(f"warning: no checkpoint: {self.failure}; training goes on, {kept}")
        else:
            self.last, self.failure = path, ""

    def wait(self) -> None:
        """Return once nothing is being written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Let what is being written be written."""
        self.wait()

    def finish(self) -> None:
        """Wait, and raise EventideError where the newest checkpoint could not be written."""
        self.wait()
        if self.failure:
            raise EventideError(
                f"no checkpoint: {self.failure}; make room or mend the folder, then go on with --resume auto"
            )


def copied(value: Any) -> Any:
    """The same containers with copies of all tensors in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
