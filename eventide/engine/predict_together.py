"""Several processes that predict one set of recordings, without a network between them: files and their locks.

The processes of one start (an attempt) agree on what is left to do: the first of them to come writes it down, the
others read it. Each says in a file of its own how far it is and keeps a lock on that file while it lives, so that the
others can tell one that works from one that has died.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from eventide.engine.predict_parts import PART_ENDING, PartFolder
from eventide.engine.processes import Launch
from eventide.ops.files import TEMPORARY_SUFFIX, write_text
from eventide.ops.locks import lock
from eventide.types import EventideError

STATE_ENDING = ".state"
PAUSE = 0.25  # seconds between two looks at the others
LATE = 600.0  # seconds after which a process that has never come is no longer waited for
ENDING = 20.0  # seconds that processes of an earlier start, which are about to end, are given for it
WORKING, FINISHED, FAILED, OVER = "working", "finished", "failed", "over"
# What all processes of one start have in common, and two starts (nearly always) do not.
LAUNCH_VARIABLES = {
    "torchrun": ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"),
    "slurm": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SLURM_NTASKS"),
}


@dataclass(frozen=True)
class Plan:
    """What there is to do: `batches` of `recordings`, as all processes of a start must see it."""

    recordings: int
    batches: int
    digest: str  # of everything that the shares follow from


def launch_key(launch: Launch, environment: Mapping[str, str] | None = None) -> str:
    """A name that the processes of one start share."""
    environment = os.environ if environment is None else environment
    if launch.size == 1:
        return uuid.uuid4().hex[:12]
    values = [environment.get(name, "") for name in LAUNCH_VARIABLES[launch.launcher]]
    if environment.get("TORCHELASTIC_RUN_ID") == "none" and launch.machines == 1:
        parent = str(os.getppid())  # torchrun itself, or what stands for it
        values.append(_name_from_torchrun(launch, environment) or parent)
    return hashlib.sha256("\0".join([launch.launcher, *values]).encode()).hexdigest()[:12]


def _name_from_torchrun(launch: Launch, environment: Mapping[str, str]) -> str:
    """A name that torchrun's table holds for its processes, whoever stands between them and torchrun (a shell, uv);
    empty where it has opened none.
    """
    from eventide.engine.rendezvous import torchrun_table

    table = torchrun_table(launch, ENDING, environment)
    return "" if table is None else table.compare_set("eventide/predict", "", uuid.uuid4().hex).decode()


@dataclass
class Attempt:
    """One process of a start."""

    folder: PartFolder
    launch: Launch
    name: str
    remaining: list[int]  # batches that were not finished at the start, whole
    _file: TextIO

    @property
    def part(self) -> Path:
        """A new part file for this process."""
        name = f"{self.name}-{self.launch.rank}-{uuid.uuid4().hex[:6]}{PART_ENDING}"
        return self.folder.path / name

    def say(self, word: str, done: int) -> None:
        """Tell the others how far this process is: `done` recordings."""
        self._file.seek(0)
        self._file.write(_state(word, done))
        self._file.flush()
        if word != WORKING:
            os.fsync(self._file.fileno())  # so that other machines see it, too

    def done_by_others(self) -> int:
        """Recordings that the other processes have finished since the start."""
        others = (rank for rank in range(self.launch.size) if rank != self.launch.rank)
        return sum(_read_state(self._path(rank))[1] for rank in others)

    def wait_for_all(self, on_look: Callable[[], object]) -> None:
        """Return when every other process has finished, failed or died; `on_look` is called while waiting."""
        begin = time.monotonic()
        waiting = [rank for rank in range(self.launch.size) if rank != self.launch.rank]
        while waiting := [rank for rank in waiting if not self._is_through(rank, begin)]:
            on_look()
            time.sleep(PAUSE)

    def wait_for_first(self) -> None:
        """Return when the first process knows that all have finished, failed or died, or is gone itself.

        A launcher that sees one process fail ends the others: so all end together.
        """
        begin = time.monotonic()
        # where its own file is gone, the results are written and the folder is removed
        while self._path(self.launch.rank).exists() and not self._is_through(0, begin, (OVER,)):
            time.sleep(PAUSE)

    def wait_for_end(self) -> None:
        """Wait a little until the other processes have ended: they hold files in the folder."""
        end = time.monotonic() + ENDING
        others = [self._path(rank) for rank in range(self.launch.size) if rank != self.launch.rank]
        while time.monotonic() < end and any(is_alive(path) for path in others):
            time.sleep(PAUSE)

    def close(self) -> None:
        """End: the others see it."""
        self._file.close()

    def _path(self, rank: int) -> Path:
        return self.folder.path / f"{self.name}-{rank}{STATE_ENDING}"

    def _is_through(self, rank: int, begin: float, words: tuple[str, ...] = (FINISHED, FAILED, OVER)) -> bool:
        path = self._path(rank)
        word, _ = _read_state(path)
        if not word:
            return time.monotonic() - begin > LATE
        return word in words or is_alive(path) is False


def begin(
    folder: PartFolder,
    launch: Launch,
    plan: Plan,
    settings: Mapping[str, Any],
    find_remaining: Callable[[], list[int]],
    *,
    force: bool,
    key: str | None = None,
) -> Attempt:
    """Join the other processes of this start, or be the first of them.

    `find_remaining` says which batches are not finished. With `force`, parts of other settings are removed; without
    any part, settings that a start has left are.

    Raises:
        UsageError: the folder holds parts of other settings.
        EventideError: processes of another start are at work, or those of this one see other recordings.
    """
    key = key or launch_key(launch)
    end = time.monotonic() + ENDING
    while True:
        with folder.locked():
            known = _read_start(folder, key)
            states = _states(folder, known["attempt"]) if known else []
            if known and known["size"] == launch.size and not _all_ended(states):
                folder.open(settings, discard=False)
                return _join(folder, launch, plan, known)
            if known:  # of a start that has ended
                _start_path(folder, key).unlink(missing_ok=True)
            busy = [path for path in _states(folder) if is_alive(path)]
            if not busy:
                folder.open(settings, discard=force or not folder.parts())  # without parts nothing is finished
                known = {"attempt": uuid.uuid4().hex[:8], "size": launch.size, "plan": plan.digest}
                known.update(recordings=plan.recordings, remaining=find_remaining())
                if _write_start(folder, key, known):
                    return _join(folder, launch, plan, known)
                continue  # without locks, another process may have been quicker
        if time.monotonic() > end:
            where = busy[0].read_text(encoding="utf-8").split()[-1]
            raise EventideError(
                f"{folder.path}: another run (process {where}) is predicting these recordings; wait for it or stop it"
            )
        time.sleep(PAUSE)


def is_alive(path: Path) -> bool | None:
    """Whether the process that says its state at `path` runs; None where that cannot be known (no locks)."""
    try:
        with path.open() as file:
            held = lock(file, shared=True, wait=False)
    except OSError:
        return False
    return None if held is None else not held


def _all_ended(states: list[Path]) -> bool:
    """Whether these processes are known to have ended; none at all: the one that will be the first is on its way."""
    return bool(states) and all(is_alive(path) is False for path in states)


def _join(folder: PartFolder, launch: Launch, plan: Plan, known: Mapping[str, Any]) -> Attempt:
    if known["plan"] != plan.digest:
        raise EventideError(
            f"this process sees other recordings or lengths than the one that came first ({plan.recordings} here, "
            f"{known['recordings']} there): are the features the same on every machine?"
        )
    path = folder.path / f"{known['attempt']}-{launch.rank}{STATE_ENDING}"
    coming = path.with_suffix(".coming")
    file = coming.open("w", encoding="utf-8")
    lock(file)  # before it has its name: nobody finds it without its lock
    file.write(_state(WORKING, 0))
    file.flush()
    os.replace(coming, path)
    return Attempt(folder, launch, known["attempt"], list(known["remaining"]), file)


def _start_path(folder: PartFolder, key: str) -> Path:
    return folder.path / f"{key}.start"


def _read_start(folder: PartFolder, key: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(_start_path(folder, key).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return content


def _write_start(folder: PartFolder, key: str, content: Mapping[str, Any]) -> bool:
    """Write what a start has to do; False where it is written already."""
    path = _start_path(folder, key)
    coming = path.with_name(f"{content['attempt']}{TEMPORARY_SUFFIX}")
    write_text(coming, json.dumps(content) + "\n")
    try:
        os.link(coming, path)  # whole, and by one process only
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        os.replace(coming, path)
    finally:
        coming.unlink(missing_ok=True)
    return True


def _states(folder: PartFolder, attempt: str = "") -> list[Path]:
    return sorted(folder.path.glob(f"{attempt}*{STATE_ENDING}"))


def _state(word: str, done: int) -> str:
    return f"{word} {done} {socket.gethostname()}:{os.getpid()}".ljust(120) + "\n"


def _read_state(path: Path) -> tuple[str, int]:
    """What a process says of itself: a word, and recordings that it has finished; ("", 0) where there is none."""
    try:
        word, done, *_ = path.read_text(encoding="utf-8").split()
        return word, int(done)
    except (OSError, ValueError):
        return "", 0
