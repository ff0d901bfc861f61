"""Kill a training with SIGKILL at random moments, again and again, and compare it with one that nothing disturbed.

    python -m tests.engine.killed --kills 20

Every restart says `--resume auto`. After each kill every checkpoint must be readable; in the end the weights must equal
those of the undisturbed run to the bit, the logs must be the same, and no temporary file may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.model_file import load_model
from tests.engine.making import all_tensors, tiny_config, write_config, write_data

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CLOCK = ("steps_per_second", "waiting_share")  # the only entries of the log that may differ
STEPS_PER_EPOCH = 3


class Killed:
    """The two runs, in a folder of their own."""

    def __init__(self, folder: Path, epochs: int, seed: int, loaders: int = 0) -> None:
        self.folder, self.random = folder, random.Random(seed)
        write_data(folder)
        opt = {"learning_rate": 0.01, "epochs": epochs - 1, "warmup_epochs": 1}
        self.config = write_config(folder, tiny_config(folder, opt=opt, loader={"num_workers": loaders}))
        self.total = epochs * STEPS_PER_EPOCH

    def start(self, name: str, checkpoint_steps: int = 1) -> subprocess.Popen[bytes]:
        """Start a training in a process of its own; by default every step writes a checkpoint."""
        words = [*self.command(name), str(self.config), "--output", name]
        words += ["--ckpt-steps", str(checkpoint_steps), "--eval-freq", "20", "--print-freq", "10"]
        with (self.folder / f"{name}.txt").open("ab") as output:
            return subprocess.Popen(words, stdout=output, stderr=output, env=self.environment())

    def command(self, name: str) -> list[str]:
        """How a training is started, up to its configuration."""
        return [sys.executable, str(REPOSITORY / "train.py"), "--resume", "auto"]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1"}

    def printed(self, name: str) -> str:
        """The end of what a training has printed."""
        return (self.folder / f"{name}.txt").read_text()[-3000:]

    def run_folder(self, name: str) -> Path:
        return self.folder / "runs" / f"tiny_{name}"

    def newest(self, name: str) -> int:
        """Steps done according to the newest checkpoint."""
        paths = list_checkpoints(self.run_folder(name) / "checkpoints")
        return int(paths[0].stem.removeprefix("step_")) if paths else 0

    def finish(self, name: str) -> None:
        """Let a training run to its end."""
        process = self.start(name, checkpoint_steps=0)
        if process.wait(timeout=900) != 0:
            raise SystemExit(self.printed(name))

    def kill_once(self, name: str, most_steps: int) -> int:
        """Start, kill after a random number of steps and a random moment more, check what is left; steps done."""
        process = self.start(name)
        goal = self.newest(name) + self.random.randint(0, most_steps)
        moment = self.random.uniform(0, 0.03)
        deadline = time.monotonic() + 120
        while self.newest(name) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moment)
        if process.poll() is not None:
            raise SystemExit(f"ended by itself: {self.printed(name)}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in list_checkpoints(self.run_folder(name) / "checkpoints"):
            load_checkpoint(path)  # raises where it is unreadable
        return self.newest(name)

    def differences(self, first: str, second: str) -> list[str]:
        """What the two finished runs do not have in common."""
        found = []
        for what, read in (("checkpoint", _state), ("best", _best), ("last", _last)):
            one, other = read(self.run_folder(first)), read(self.run_folder(second))
            same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
            found += [] if same else [f"the weights in {what} differ"]
        if _entries(self.run_folder(first)) != _entries(self.run_folder(second)):
            found.append("metrics.jsonl differs")
        found += [f"{path} is left over" for path in self.run_folder(second).rglob("*.tmp")]
        return found


def _state(run: Path) -> dict[str, torch.Tensor]:
    return all_tensors(load_checkpoint(list_checkpoints(run / "checkpoints")[0]))


def _best(run: Path) -> dict[str, torch.Tensor]:
    return load_model(run / "best.safetensors").tensors


def _last(run: Path) -> dict[str, torch.Tensor]:
    return load_model(run / "last.safetensors").tensors


def _entries(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def kill_test(folder: Path, kills: int, seed: int) -> list[str]:
    """Run the whole comparison in `folder`; what is wrong in the end, empty when nothing is."""
    most = 8  # steps between two kills, half of it on average; as many are left for what is done until the signal
    runs = Killed(folder, epochs=-(-kills * 5 * most // (4 * STEPS_PER_EPOCH)), seed=seed)
    runs.finish("whole")
    print(f"undisturbed: {runs.newest('whole')} steps")
    for number in range(kills):
        done = runs.kill_once("killed", most)
        print(f"kill {number + 1}/{kills}: {done} of {runs.total} steps done", flush=True)
    runs.finish("killed")
    return runs.differences("whole", "killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = kill_test(Path(folder), options.kills, options.seed)
    print("\n".join(wrong) if wrong else "the killed run equals the undisturbed one")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
