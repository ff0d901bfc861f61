"""Trainings in several processes, as a user starts them: torchrun, or each process by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from eventide.engine.checkpoint import list_checkpoints
from eventide.engine.model_file import load_model
from tests.conftest import REPOSITORY
from tests.engine.family import Family
from tests.engine.making import tiny_config, write_config, write_data
from tests.engine.several.pool import free_port

PATIENCE = 300  # seconds until a command counts as hanging


@dataclass
class Command:
    """A started command."""

    process: subprocess.Popen[str]
    family: Family

    def finish(self) -> Ended:
        """Wait for its end; whatever it has started is ended when it hangs."""
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.family.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"hangs: {out[-1000:]} {err[-3000:]}") from None
        return Ended(self.process.returncode, out, err)


@dataclass
class Ended:
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    def errors(self) -> list[str]:
        """Our own messages."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@dataclass
class Place:
    """A folder with the data of the tiny training, and its configuration with a few changes."""

    folder: Path
    config: Path
    family: Family = field(default_factory=Family)

    @classmethod
    def make(cls, folder: Path, **changes: Any) -> Place:
        write_data(folder)
        return cls(folder, write_config(folder, tiny_config(folder, **changes)))

    def run(self, name: str) -> Path:
        return self.folder / "runs" / f"tiny_{name}"

    def start(self, words: Sequence[Any], environment: Mapping[str, str] | None = None) -> Command:
        """`python WORDS`."""
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**self.family.environment(), **(environment or {})},
        )
        return Command(process, self.family)

    def torchrun(
        self,
        name: str,
        *words: str,
        processes: int = 2,
        agent: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Command:
        """`torchrun --nproc_per_node=PROCESSES train_ddp.py CONFIG --output NAME WORDS`, on a free port."""
        agent = agent or [f"--nproc_per_node={processes}", f"--master_port={free_port()}"]
        command = ["-m", "torch.distributed.run", *agent, REPOSITORY / "train_ddp.py", self.config]
        return self.start([*command, "--output", name, *words], environment)

    def alone(self, name: str, *words: str, script: str = "train_ddp.py") -> Command:
        """`python train_ddp.py CONFIG --output NAME WORDS`."""
        return self.start([REPOSITORY / script, self.config, "--output", name, *words])

    def by_hand(
        self, name: str, *words: str, size: int = 2, each: Mapping[int, Sequence[str]] | None = None
    ) -> list[Command]:
        """All processes with their variables; `each` has more words for some of them."""
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [REPOSITORY / "train_ddp.py", self.config, "--output", name, *words]
        return [
            self.start(
                [*command, *((each or {}).get(rank, ()))], {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(size)
        ]

    def wait_for(self, happened: Callable[[], bool], command: Command) -> None:
        end = time.monotonic() + PATIENCE
        while not happened():
            if command.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"has not happened: {command.finish()}")
            time.sleep(0.02)

    def step(self, name: str) -> int:
        """Steps done according to the newest checkpoint."""
        paths = list_checkpoints(self.run(name) / "checkpoints")
        return int(paths[0].stem.removeprefix("step_")) if paths else 0

    def copy_until(self, name: str, step: int, to: str) -> None:
        """The run as it was after so many steps."""
        shutil.copytree(self.run(name), self.run(to))
        for path in list_checkpoints(self.run(to) / "checkpoints"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()
        for path in (self.run(to) / "best.safetensors", self.run(to) / "last.safetensors"):
            path.unlink()


def weights_differ(first: Path, second: Path, tolerance: float = 0.0) -> float:
    """The largest difference between the last weights of two finished runs; 0 where it is within `tolerance`."""
    one, other = (load_model(run / "last.safetensors").tensors for run in (first, second))
    assert one.keys() == other.keys()
    largest = max(float((one[key].float() - other[key].float()).abs().max()) for key in one)
    return 0.0 if largest <= tolerance and all(torch.isfinite(value).all() for value in one.values()) else largest
