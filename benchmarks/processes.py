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
from functools import partial
from pathlib import Path

from benchmarks.common import Work, arguments, timed
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


def in_turn(works: dict[str, Work], runs: int) -> dict[str, list[float]]:
    """Seconds of each work, `runs` times, every other time in the opposite order, after once to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name in reversed(works) if run % 2 else works:
            taken = timed(works[name])
            if run:
                times[name].append(taken)
    return times


def ratio(times: dict[str, list[float]], over: str, under: str) -> list[float]:
    """Lower quartile, median and upper quartile over the runs of one work's time over the other's beside it.

    Neighbours in time see the same machine, so their ratio moves less than either time does.
    """
    ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")


def scaling(config: str, folder: Path, length: int, runs: int, size: int) -> dict[str, object]:
    """Seconds of `STEPS` steps of one process and of `size`, in turn."""
    alone, _ = started(config, folder / "one", length, 1)
    several, others = started(config, folder / "several", length, size)
    command = {"work": "steps", "count": STEPS}
    with closing(alone), closing(several):
        times = in_turn({"one": partial(alone, command), "several": partial(several, command)}, runs)
    for process in others:
        process.wait()
    low, efficiency, high = ratio(times, "one", "several")
    print(f"\n{size} processes against 1, {runs} runs of {STEPS} steps in turn:")
    print(f"  efficiency {efficiency:.3f}, half of the runs between {low:.3f} and {high:.3f}")
    return {"processes": size, "efficiency": efficiency, "seconds": times}


def loops(config: str, folder: Path, length: int, runs: int) -> dict[str, object]:
    """The trainer against a bare loop, then checkpoints: their writing would slow down whatever follows it."""
    worker, _ = started(config, folder / "loops", length, 1)

    def works(*names: str) -> dict[str, Work]:
        return {name: partial(worker, {"work": name, "count": STEPS}) for name in names}

    with closing(worker):
        times = in_turn(works("steps", "bare"), runs)
        saving = in_turn(works("steps", "background", "waiting"), runs)
    low, overhead, high = (value - 1 for value in ratio(times, "steps", "bare"))
    print(f"\nFabric, logging and averaged weights against a bare loop, {runs} runs in turn:")
    print(f"  {overhead:+.1%}, half of the runs between {low:+.1%} and {high:+.1%}")
    for work, name in (("background", "beside the training"), ("waiting", "by the training")):
        extra = statistics.median(a - b for a, b in zip(saving[work], saving["steps"], strict=True))
        print(
            f"a checkpoint written {name}: {extra:.2f} s, {extra / 300:.2%} of training with one every 5 minutes"
            f" ({extra / 60:.2%} with one a minute)"
        )
    return {"overhead": overhead, "seconds": times, "seconds_with_checkpoints": saving}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, runs=15)
    parser.add_argument("config", help="a configuration; its data is made up")
    parser.add_argument("--length", type=int, default=1024, help="feature vectors of a sequence")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.runs < 2:
        parser.error("--runs: a spread takes at least two")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            scaling(options.config, folder, options.length, options.runs, options.processes),
            loops(options.config, folder, options.length, options.runs),
        ]
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
