"""Several trainings for one table, some at once, each through the command that a user types; done ones are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Training:
    """One run: its name (also of its folder), its configuration and what is set on top, each `a.b=value`."""

    name: str
    config: Path
    settings: tuple[str, ...] = ()


def run_trainings(
    trainings: Sequence[Training], folder: Path, *, at_once: int, on_done: Callable[[Training, Path], None]
) -> None:
    """Train everything that is not finished yet in `folder`, `at_once` runs at a time on one thread each; `on_done`
    gets each training with its run's folder, finished ones of earlier calls included, in the order given.

    Only the weights after the last step are evaluated: no run is chosen by its score.

    Raises:
        RuntimeError: a training failed; names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        for training, run in zip(trainings, pool.map(lambda item: _train(item, folder), trainings), strict=True):
            on_done(training, run)


def _train(training: Training, folder: Path) -> Path:
    run = folder / f"{training.config.stem}_{training.name}"
    if (run / "last.safetensors").is_file():
        return run
    command = [sys.executable, "train.py", str(training.config), "--output", training.name, "--eval-freq", "0"]
    command += ["--resume", "auto", "--print-freq", "50"]
    command += [word for setting in (f"output_folder={folder}", *training.settings) for word in ("--set", setting)]
    log = folder / f"{training.config.stem}_{training.name}.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(f"training {training.name} ended with code {code}; see {log}")
    return run
