"""What several processes bring, and what the training loop costs beside a bare one.

    python -m benchmarks.processes configs/thumos_i3d_v2.yaml --length 1024

One thread per process. Three tables: steps of one process and of two, in turn (each process computes a batch of its
own, so twice the work in the time of one is an efficiency of 1); steps of the trainer (Fabric, logging, averaged
weights) against a loop of forward, backward, clipping and update, in turn; and what a checkpoint costs, written beside
the training and by it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.common import arguments, timed
from benchmarks.processes_worker import free_port
from benchmarks.worker import Worker

STEPS = 3  # of a timing


def started(config: str, folder: Path, length: int, size: int) -> tuple[Worker, list[subprocess.Popen[bytes]]]:
    """`size` processes that train together; the first takes the commands."""
    port = str(free_port())
    common = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    words = ["benchmarks.processes_worker", config, str(folder), str(length)]
    others = []
    for rank in range(1, size):
        environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        others.append(subprocess.Popen([sys.executable, "-m", *words], env=environment))
    os.environ.update({**common, "RANK": "0", "LOCAL_RANK": "0"})
    return Worker(*words), others


def scaling(config: str, folder: Path, length: int, runs: int, size: int) -> dict[str, object]:
    """Seconds of `STEPS` steps of one process and of `size`, in turn."""
    alone, _ = started(config, folder / "one", length, 1)
    several, others = started(config, folder / "several", length, size)
    with closing(alone), closing(several):
        for worker in (alone, several):
            worker({"work": "steps", "count": 1})
        times: dict[int, list[float]] = {1: [], size: []}
        for _ in range(runs):
            times[1].append(timed(lambda: alone({"work": "steps", "count": STEPS})))
            times[size].append(timed(lambda: several({"work": "steps", "count": STEPS})))
    for process in others:
        process.wait()
    medians = {count: statistics.median(values) for count, values in times.items()}
    efficiency = medians[1] / medians[size]
    print(f"\n{size} processes against 1, {runs} runs of {STEPS} steps in turn: efficiency {efficiency:.3f}")
    print(f"  medians {medians[1] / STEPS:.3f} s and {medians[size] / STEPS:.3f} s a step")
    return {"processes": size, "efficiency": efficiency, "seconds": times}


def loops(config: str, folder: Path, length: int, runs: int) -> dict[str, object]:
    """The trainer against a bare loop, and checkpoints."""
    worker, _ = started(config, folder / "loops", length, 1)
    with closing(worker):
        times: dict[str, list[float]] = {"steps": [], "bare": [], "background": [], "waiting": []}
        for work in ("steps", "bare"):
            worker({"work": work, "count": 1})
        for _ in range(runs):
            for work in ("steps", "bare"):
                times[work].append(timed(lambda w=work: worker({"work": w, "count": STEPS})))  # type: ignore[misc]
            for work in ("background", "waiting"):
                times[work].append(timed(lambda w=work: worker({"work": w, "count": STEPS})))  # type: ignore[misc]
    medians = {work: statistics.median(values) for work, values in times.items()}
    overhead = medians["steps"] / medians["bare"] - 1
    print(f"\nFabric, logging and averaged weights against a bare loop, {runs} runs in turn: {overhead:+.1%}")
    for work, name in (("background", "beside the training"), ("waiting", "by the training")):
        extra = medians[work] - medians["steps"]
        print(
            f"a checkpoint written {name}: {extra:.2f} s, {extra / 300:.2%} of training with one every 5 minutes"
            f" ({extra / 60:.2%} with one a minute)"
        )
    return {"overhead": overhead, "seconds": times}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, runs=5)
    parser.add_argument("config", help="a configuration; its data is made up")
    parser.add_argument("--length", type=int, default=1024, help="feature vectors of a sequence")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            scaling(options.config, folder, options.length, options.runs, options.processes),
            loops(options.config, folder, options.length, options.runs),
        ]
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
