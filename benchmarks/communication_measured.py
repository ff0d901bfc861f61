"""How many bytes `train_ddp.py` sends, read from the counters of a network device that nobody else uses.

Linux only: the run has a network namespace of its own, whose loopback device counts every byte between its processes.
Two runs that differ in the number of epochs: their difference holds steps alone, neither start nor end.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDINGS = 9  # of the toy data, of which a third is to evaluate on
EPOCHS = (1, 2)
SETTINGS = ("loader.batch_size=1", "loader.num_workers=0", "opt.warmup=false", "train_cfg.accum_steps=1", "device=cpu")
SHORT = ("dataset.max_seq_len=128", "model.backbone.max_len=128")  # what is sent does not depend on it


@dataclass(frozen=True)
class Measured:
    """Bytes that went over the loopback device, headers of the packets included."""

    processes: int
    strategy: str  # ddp or fsdp
    steps: int  # that the two runs differ by
    bytes_in_all: int  # in these steps, from all processes

    @property
    def bytes_per_step(self) -> float:
        """Sent by each process."""
        return self.bytes_in_all / self.steps / self.processes


def measure(config: Path, processes: int, strategy: str = "ddp") -> Measured:
    """Train a toy data set of the configuration in so many processes, for a few steps and for some more.

    Raises:
        RuntimeError: a run failed, or this machine gives nobody a network of their own.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = [*SETTINGS, *SHORT, *([] if strategy == "ddp" else [f"train_cfg.strategy={strategy}"])]
        toy = [sys.executable, "-m", "eventide", "make-toy", str(config.resolve()), "toy"]
        _run([*toy, "--recordings", str(RECORDINGS), "--set", *settings], folder)
        counts = [_train(folder, processes, epochs) for epochs in EPOCHS]
    (few_bytes, few_steps), (many_bytes, many_steps) = counts
    return Measured(processes, strategy, many_steps - few_steps, many_bytes - few_bytes)


def _train(folder: Path, processes: int, epochs: int) -> tuple[int, int]:
    """Bytes of a whole run, and its steps."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc_per_node={processes}"]
    words += ["--master_addr=127.0.0.1", "--master_port=29500", str(ROOT / "train_ddp.py"), "toy/config.yaml"]
    words += ["--output", str(epochs), "--ckpt-freq", "0", "--eval-freq", "0", "--set", f"opt.epochs={epochs}"]
    script = f"ip link set lo up && {shlex.join(words)} >&2 && cat /proc/net/dev"
    done = _run(["unshare", "--net", "--map-root-user", "bash", "-c", script], folder)
    runs = list((folder / "toy" / "runs").glob(f"*_{epochs}"))
    log = (runs[0] / "metrics.jsonl").read_text(encoding="utf-8")
    return loopback_bytes(done), max(json.loads(line)["step"] for line in log.splitlines())


def loopback_bytes(text: str) -> int:
    """Bytes sent over `lo`, from the text of /proc/net/dev."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[8])


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
