"""Ctrl-C and SIGTERM: asked once, a loop finishes what it is at; Ctrl-C after that stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class StopWaiting(BaseException):
    """Somebody asked to stop: what is read or computed is not needed any more."""


class Interruption:
    """Within the context the two signals set `requested` instead of stopping the process.

    `is_termination` says that it was SIGTERM: a scheduler wants the machine back, nobody has changed their mind.
    """

    def __init__(self) -> None:
        self.requested = self.is_termination = False
        self._before: dict[signal.Signals, Any] = {}
        self._waits = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def ending_wait(self) -> Iterator[None]:
        """Within the context the first signal, also one that came before, raises StopWaiting."""
        self._waits = True
        try:
            if self.requested:
                raise StopWaiting
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Only an impatient person asks twice; schedulers and launchers may well send SIGTERM several times.
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_termination = number == signal.SIGTERM and (self.is_termination or not self.requested)
        self.requested = True
        if self._waits:
            self._waits = False
            raise StopWaiting
