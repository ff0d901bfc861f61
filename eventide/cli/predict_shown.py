"""What `eventide predict` shows on its way: the first of several processes speaks, others tell what went wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventide.cli.progress import progress_bar
from eventide.engine.processes import Launch
from eventide.ops.problems import words_of_system
from eventide.types import AlreadySaidError, EventideError, UsageError

GRACE = 10.0  # seconds in which a launcher that saw the first process fail ends the others
MINUTE = 60.0


class Shown:
    """A bar on a terminal, elsewhere a line a minute; only of the first process."""

    def __init__(self, launch: Launch, on_bar: Callable[[int, int], None], parts: str) -> None:
        self.launch, self.parts, self._on_bar = launch, parts, on_bar
        self.finished, self.total = 0, 0
        self._next_line = time.monotonic() + MINUTE

    def begin(self, finished: int, total: int) -> None:
        self.finished, self.total = finished, total
        if finished and self.launch.is_first:
            print(f"going on with {self.parts}: {finished} of {total} recordings are finished")

    def progress(self, finished: int, total: int) -> None:
        self.finished = finished
        self._on_bar(finished, total)
        if not sys.stderr.isatty() and time.monotonic() >= self._next_line:
            self._next_line += MINUTE
            print(f"{finished} of {total} recordings", flush=True)

    def failure(self, error: EventideError | OSError, finished: int, total: int) -> None:
        self.finished = finished
        many = self.launch.size > 1
        who = f"process {self.launch.rank} of {self.launch.size}: " if many else ""
        others = "; the others finish what is theirs" if many else ""
        print(f"error: {who}{text_of(error)}{others}{self.rest()}", file=sys.stderr, flush=True)

    def rest(self) -> str:
        """What is there already, and how to go on; empty where there is nothing."""
        if not self.finished:
            return ""
        return f"; {self.finished} of {self.total} recordings are finished, the same command goes on from there"


@contextmanager
def showing(launch: Launch, parts: str) -> Iterator[Shown]:
    """What the command shows within the context."""
    if not launch.is_first:
        yield Shown(launch, lambda finished, total: None, parts)
        return
    with progress_bar("predicting") as on_bar:
        yield Shown(launch, on_bar, parts)


@contextmanager
def said_once(launch: Launch) -> Iterator[None]:
    """Of the same mistake in all processes, let the first one tell it."""
    try:
        yield
    except EventideError as error:
        if launch.is_first:
            raise
        raise AlreadySaidError(str(error), isinstance(error, UsageError)) from None


@contextmanager
def first_before_others(launch: Launch) -> Iterator[None]:
    """Of a mistake that one process may make alone, let the first one tell it before the others: where it does, its
    launcher ends them.
    """
    try:
        yield
    except EventideError as error:
        if launch.is_first or isinstance(error, AlreadySaidError):
            raise
        time.sleep(GRACE)
        raise type(error)(f"process {launch.rank} of {launch.size}: {error}") from None


def text_of(error: EventideError | OSError) -> str:
    """One line for a problem."""
    return words_of_system(error) if isinstance(error, OSError) else str(error)
