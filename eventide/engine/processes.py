"""Which of how many processes this is: what torchrun or SLURM has put into the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from eventide.types import AlreadySaidError, EventideError, UsageError

Launcher = Literal["alone", "torchrun", "slurm"]
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # what torchrun sets, and what who starts processes by hand must set
NO_STEP = 4_000_000_000  # from about here SLURM's step numbers stand for batch scripts and interactive shells
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


@dataclass(frozen=True)
class Launch:
    """One of `size` processes, the `rank`-th (0 writes and prints); `local_rank` of `local_size` on its machine."""

    launcher: Launcher = "alone"
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    restarts: int = 0  # how often torchrun has started the processes anew

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def machines(self) -> int:
        return self.size // self.local_size


def find_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """How this process was started.

    Raises:
        UsageError: the variables are incomplete or contradict one another.
    """
    environment = os.environ if environment is None else environment
    alone = environment.get("WORLD_SIZE", "1") == "1"  # some clusters set it for every job
    if not alone or any(name in environment for name in ("RANK", "TORCHELASTIC_RUN_ID")):
        names, launcher = TORCHRUN, "torchrun"
    elif _is_of_srun(environment):
        names, launcher = SLURM, "slurm"
    else:
        return Launch()
    return _checked(environment, names, launcher)  # type: ignore[arg-type]


def _is_of_srun(environment: Mapping[str, str]) -> bool:
    """Whether srun has started this process, not a batch script or a shell."""
    step = environment.get("SLURM_STEP_ID", "")
    return step != "" and not (step.isdigit() and int(step) >= NO_STEP)


def speaks(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process says what all of its machine find out before they have met: where one command has started
    them, its first one alone.
    """
    environment = os.environ if environment is None else environment
    one_command = "TORCHELASTIC_RUN_ID" in environment or "SLURM_STEP_ID" in environment
    local_rank = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", "0"))
    return not one_command or local_rank == "0"


@contextmanager
def said_once() -> Iterator[None]:
    """What goes wrong within is said by the first process of each machine."""
    try:
        yield
    except EventideError as error:
        if speaks():
            raise
        raise AlreadySaidError(str(error), isinstance(error, UsageError)) from None


def _checked(environment: Mapping[str, str], names: tuple[str, str, str], launcher: Launcher) -> Launch:
    missing = [name for name in names if name not in environment]
    if missing:
        raise UsageError(
            f"started as one of several processes, but {', '.join(missing)} is not set; start with torchrun or srun, "
            "or set them all"
        )
    rank, size, local_rank = (_number(environment, name) for name in names)
    local_size = _tasks_here(environment, size) if launcher == "slurm" else _number(environment, "LOCAL_WORLD_SIZE", 0)
    local_size = local_size or size
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        values = ", ".join(f"{name}={environment[name]}" for name in names)
        raise UsageError(f"these do not fit together: {values}, {local_size} process(es) on this machine")
    if size % local_size:
        raise UsageError(
            f"{size} processes do not fit onto machines of {local_size}: every machine must run as many as the others"
        )
    restarts = _number(environment, "TORCHELASTIC_RESTART_COUNT", 0)
    return Launch(launcher, rank, size, local_rank, local_size, restarts)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(f"{name}={text}: a whole number is expected") from None


def _tasks_here(environment: Mapping[str, str], size: int) -> int:
    """Tasks on this machine: `SLURM_TASKS_PER_NODE` reads "4" or "4(x2)"; lists of different numbers do not fit."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", str(size)))
    first = text.partition("(")[0]
    if "," in text or not first.isdigit():
        raise UsageError(f"SLURM runs {text} tasks per node: every machine must run as many (--ntasks-per-node)")
    return int(first)
