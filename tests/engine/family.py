"""The processes that a command has started, however deep, and what is left of them (Linux: read from /proc)."""

from __future__ import annotations

import os
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MARK = "EVENTIDE_TEST_FAMILY"


@dataclass(frozen=True)
class Member:
    """A process with the environment it was started with."""

    pid: int
    parent: int
    environment: dict[str, str] = field(repr=False)

    @property
    def rank(self) -> int:
        return int(self.environment["RANK"])

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


class Family:
    """Give `environment()` to a command; everything that descends from it is found again by the mark in it."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    def environment(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"}

    def members(self) -> list[Member]:
        """All that are alive; not those that have ended and wait for their parent to notice."""
        found = [_read(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [member for member in found if member is not None and member.environment.get(MARK) == self.mark]

    def workers(self, restarts: int = 0) -> list[Member]:
        """The training processes that torchrun has started after so many failures, by rank."""
        started = [m for m in self.members() if m.environment.get("TORCHELASTIC_RESTART_COUNT") == str(restarts)]
        pids = {member.pid for member in started}
        return sorted((member for member in started if member.parent not in pids), key=lambda member: member.rank)

    def loaders(self, restarts: int = 0) -> list[Member]:
        """The processes that load data for the `workers`."""
        pids = {member.pid for member in self.workers(restarts)}
        return [member for member in self.members() if member.parent in pids]

    def left(self, patience: float = 30) -> list[str]:
        """What is still alive; loader processes take some seconds to notice that their parent was killed."""
        end = time.monotonic() + patience
        while (alive := self.members()) and time.monotonic() < end:
            time.sleep(0.2)
        return [f"process {member.pid} is left over" for member in alive]

    def kill(self) -> None:
        """End all of them, when a test has failed."""
        for member in self.members():
            member.kill()


def _read(pid: int) -> Member | None:
    """None for a process that has ended meanwhile, is another user's, or a zombie (its environment is empty)."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    environment = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    return Member(pid, int(status.rpartition(")")[2].split()[1]), environment)
