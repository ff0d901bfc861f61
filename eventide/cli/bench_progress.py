"""What a measurement says on the way: a bar in a terminal, a line per phase elsewhere, both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def bench_progress() -> Iterator[Callable[[str, str, int, int], None]]:
    """Gives what to call with (phase, what, turns done, turns in all)."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainLines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    description = TextColumn("{task.description}", markup=False)
    with Progress(
        description, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda phase, what, done, total: bar.update(
            task, description=f"{phase}: {what}" if what else phase, completed=done, total=total
        )


class PlainLines:
    """A line whenever a phase begins, and every so often within it."""

    def __init__(self) -> None:
        self._phase, self._begin, self._last = "", time.monotonic(), 0.0

    def __call__(self, phase: str, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase != self._phase or now - self._last > SECONDS_BETWEEN_LINES:
            self._phase, self._last = phase, now
            name = f"{phase}: {what}" if what else phase
            print(f"{name} ({done} of {total} turns, {now - self._begin:.0f} s)", file=sys.stderr, flush=True)
