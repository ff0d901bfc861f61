"""The numbers of a training for programs, `metrics.jsonl` and TensorBoard, in files that may fail to be written."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eventide.ops.files import write_text
from eventide.types import EventideError

MOST_KEPT = 2**20  # bytes that a file keeps for later while it cannot be written


class LogFile:
    """A file that grows at its end, complete up to the moment the process ends, however it ends.

    Where it cannot be written (disk full, folder gone), `say` tells so once and the training goes on; up to 1 MiB is
    kept and added as soon as there is room again.
    """

    def __init__(self, path: Path, say: Callable[[str], object]) -> None:
        self.path, self.say = path, say
        self._handle: int | None = None
        self._waiting = bytearray()
        self._failed = False
        self._lock = threading.Lock()  # a checkpoint's thread has things to say too

    def append(self, text: str | bytes) -> None:
        """Add to the end, now or later."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        with self._lock:
            if len(self._waiting) + len(data) <= MOST_KEPT:
                self._waiting += data
            news = self._write()
        if news:
            self.say(news)

    def _write(self) -> str:
        """Write what is waiting; what there is to say about it, where that is new."""
        try:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if os.fstat(self._handle).st_nlink == 0:  # written to, it would be lost without an error
                raise FileNotFoundError("the file was removed")
            while self._waiting:
                del self._waiting[: os.write(self._handle, self._waiting)]
        except OSError as error:
            self._close()  # it is opened anew next time: the folder may be another one by then
            if self._failed:
                return ""
            self._failed = True
            return f"warning: {self.path}: cannot be written: {error.strerror or error}; training goes on"
        if not self._failed:
            return ""
        self._failed = False
        return f"{self.path} is written again"

    def _close(self) -> None:
        if self._handle is not None:
            try:
                os.close(self._handle)
            except OSError:  # some network file systems report a full disk only here
                self._failed = True
            self._handle = None

    def close(self) -> None:
        with self._lock:
            self._close()


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line."""

    def __init__(self, path: Path, keep: Callable[[Mapping[str, Any]], bool], say: Callable[[str], object]) -> None:
        """Keep the entries that led to the state a run goes on from, and drop the others.

        Raises:
            EventideError: the file cannot be read or written.
        """
        kept = [line for line, entry in _lines(path) if keep(entry)]
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = LogFile(path, say)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        self._file.append(json.dumps(entry) + "\n")

    def close(self) -> None:
        self._file.close()


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The whole lines of a metrics file; one that a kill cut off is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise EventideError(f"{path} cannot be read: {error.strerror or error}") from None
    found = []
    for line in lines:
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
    """Curves for TensorBoard; nothing is imported or written before the first number.

    TensorBoard's own writer writes in a thread, which a full disk ends with a traceback.
    """

    def __init__(self, folder: Path, step: int, say: Callable[[str], object]) -> None:
        """The curves of a run that goes on after `step` steps."""
        self._step = step
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = LogFile(folder / name, say)
        self._begun = False

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        now = time.time()
        data = b""
        if not self._begun:
            self._begun = True
            data += record(Event(wall_time=now, file_version="brain.Event:2"))
            # what an interrupted run wrote beyond the step it goes on from, or begins anew at, is hidden
            log = SessionLog(status=SessionLog.START)
            data += record(Event(wall_time=now, step=self._step + 1, session_log=log))
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        data += record(Event(wall_time=now, step=step, summary=Summary(value=points)))
        self._make_folder()
        self._file.append(data)

    def _make_folder(self) -> None:
        """Make the folder, but not the one around it, which a mount that went away may have taken along."""
        try:
            self._file.path.parent.mkdir(exist_ok=True)
        except OSError:  # the file says so
            return

    def close(self) -> None:
        self._file.close()


def record(event: Any) -> bytes:
    """One event as TensorBoard reads it: length, contents and their checksums."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
