"""Time and memory of inference against the length of the recording, up to hours in one pass on the CPU.

python -m benchmarks.long_recordings [--lengths 1000 ... 100000] [--runs 3] [--json FILE]

The THUMOS14 configuration with backbone v2 and all its switches on: d = 512, window 19, 2048 channels in. Peak resident
memory is above weights and input, and each length has a process of its own; times are of this process, in turn. Both
are fitted with a straight line. Exit code 1 where the longest recording takes more memory than its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import machine
from eventide.config import Config
from eventide.config_loading import load_config
from eventide.engine.measure.peak_memory import MemoryJob, measure_memory
from eventide.engine.measure.scaling import fit_line
from eventide.engine.measure.workload import InferenceWork, random_batch
from eventide.engine.memory import keep_freed_memory

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "thumos_i3d.yaml"
LENGTHS = (1000, 2304, 5000, 9000, 20000, 40000, 70000, 100000)
LIMIT_LENGTH, LIMIT_BYTES = 100_000, 2_500_000_000
LEAST_R_SQUARED = 0.99
CPU = torch.device("cpu")


def configuration() -> Config:
    """THUMOS14 with every switch of backbone v2 on, as is its default."""
    return load_config(CONFIG, ["model.backbone_type=convTransformerv2"])


def memory(config: Config, lengths: list[int], amp: bool) -> dict[int, int]:
    """Bytes above weights and input for each length."""
    found = {}
    for length in lengths:
        job = MemoryJob(config, "inference", length, 1, amp, torch.get_num_threads())
        measured = measure_memory(job, CPU)
        if measured is not None:
            found[length] = measured.above_input
            print(f"T = {length:7,}: {found[length] / 1e6:7.0f} MB", flush=True)
    return found


def times(config: Config, lengths: list[int], runs: int, amp: bool) -> dict[int, list[float]]:
    """Seconds from features to detections for each length, after one call that does not count."""
    keep_freed_memory()
    work = InferenceWork(config, CPU, amp)
    found: dict[int, list[float]] = {length: [] for length in lengths}
    work.run(random_batch(config, lengths[0], 1))
    for number in range(runs):
        for length in lengths:
            found[length].append(work.run(random_batch(config, length, 1)).whole)
            print(f"round {number + 1}, T = {length:7,}: {found[length][-1]:7.2f} s", flush=True)
    return found


def table(peaks: dict[int, int], seconds: dict[int, list[float]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| vectors | time | per 1000 vectors | memory | per vector |", "| ---: | ---: | ---: | ---: | ---: |"]
    for length in sorted({*peaks, *seconds}):
        cells = [f"{length:,}", "-", "-", "-", "-"]
        if seconds.get(length):
            taken = statistics.median(seconds[length])
            cells[1:3] = [f"{taken:.2f} s", f"{taken / length * 1e6:.0f} ms"]
        if length in peaks:
            cells[3:] = [f"{peaks[length] / 1e6:.0f} MB", f"{peaks[length] / length / 1e3:.1f} kB"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def fits(peaks: dict[int, int], seconds: dict[int, list[float]]) -> dict[str, dict[str, Any]]:
    """The straight lines, where there are lengths enough."""
    curves: dict[str, dict[int, float]] = {
        "seconds": {length: statistics.median(values) for length, values in seconds.items() if values},
        "bytes": {length: float(value) for length, value in peaks.items()},
    }
    lines = {name: fit_line(list(curve), list(curve.values())) for name, curve in curves.items()}
    return {name: asdict(line) for name, line in lines.items() if line is not None}


def main() -> None:
    """Measure, print, and judge the longest recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), metavar="T")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each length; 0: memory only (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads of the CPU (torch's choice)")
    parser.add_argument("--amp", action="store_true", help="in bfloat16")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config, lengths = configuration(), sorted(set(options.lengths))
    peaks = memory(config, lengths, options.amp)
    seconds = times(config, lengths, options.runs, options.amp) if options.runs else {}
    lines = fits(peaks, seconds)
    print("\n".join(["", *table(peaks, seconds), ""]))
    for name, line in lines.items():
        verdict = "linear" if line["r_squared"] > LEAST_R_SQUARED else "NOT LINEAR"
        print(f"{name} = {line['slope']:.4g} T + {line['intercept']:.4g}, R^2 {line['r_squared']:.4f}: {verdict}")
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.json:
        content = {"memory_bytes": peaks, "seconds": seconds, "fits": lines, "machine": machine()}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    peak = peaks.get(LIMIT_LENGTH)
    if peak is not None:
        print(f"T = {LIMIT_LENGTH:,}: {peak / 1e9:.2f} GB above weights and input, at most {LIMIT_BYTES / 1e9:.1f} GB")
        if peak > LIMIT_BYTES:
            sys.exit(1)


if __name__ == "__main__":
    main()
