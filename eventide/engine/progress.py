"""What a training says while it runs: a bar in a terminal, plain lines elsewhere, and every line in `train.log`."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from eventide.engine.logs import LogFile

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)


class Reporter:
    """Prints lines and, in a terminal, keeps a bar below them; says nothing when `silent`."""

    def __init__(self, log: Path | None = None, *, interactive: bool | None = None, silent: bool = False) -> None:
        self._log = LogFile(log, self._show) if log is not None else None
        self.interactive = sys.stdout.isatty() and not silent if interactive is None else interactive
        self.silent = silent
        self._progress: Progress | None = None
        self._task: Any = None

    def line(self, text: str) -> None:
        """Print one line, also to the log."""
        if self.silent:
            return
        self._show(text)
        self.note(text)

    def _show(self, text: str) -> None:
        """Print one line; what the screen is sent to may be a file on a full disk."""
        try:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False)
            else:
                print(text, flush=True)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise

    def note(self, text: str) -> None:
        """Write one line to the log only."""
        if self._log is not None:
            self._log.append(text + "\n")

    def step_line(self, text: str) -> None:
        """A line about steps: it goes to the log, and to the screen only where no bar shows the same."""
        (self.note if self.interactive else self.line)(text)

    def bar(self, what: str, done: int, total: int, text: str = "") -> None:
        """Show the bar at `done` of `total`; nothing outside a terminal."""
        if not self.interactive:
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(),
                refresh_per_second=4,
            )
            self._progress.start()
            self._task = self._progress.add_task(what, total=total, text=text)
        self._progress.update(self._task, description=what, completed=done, total=total, text=text)

    def close_bar(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        self.close_bar()
        if self._log is not None:
            self._log.close()
