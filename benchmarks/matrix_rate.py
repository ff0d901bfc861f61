"""The machine's matrix rate, and what share of it a training step of the network reaches.

python -m benchmarks.matrix_rate [--json FILE]

`eventide bench CONFIG` tells the share of any configuration by nominal operations; here those that the CPU really does
are counted, minimal filtering included.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks.common import arguments, machine, timed
from benchmarks.network_worker import BATCH, CONFIG, LENGTH, Ours
from eventide.config_loading import load_config
from eventide.engine.measure.matrix_rate import matrix_rate
from eventide.engine.measure.operations import count_operations, operations_done


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=15).parse_args()
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(Path(name))
        done = operations_done(ours.step)
        step = statistics.median(timed(ours.step) for _ in range(3))
        mixed = statistics.median(timed(lambda: ours.step(amp=True)) for _ in range(3))
    nominal = count_operations(load_config(CONFIG), LENGTH, BATCH, training=True).total
    full, low = (matrix_rate(device, dtype, options.runs) for dtype in (torch.float32, torch.bfloat16))
    print(f"matrix rate: float32 {full / 1e9:.0f}, bfloat16 {low / 1e9:.0f} GFLOP/s")
    print(f"training step, float32: {done / 1e9:.0f} GFLOP done, {done / step / full:.0%} of the rate")
    print(f"the same, nominally: {nominal / 1e9:.0f} GFLOP, {nominal / step / full:.0%} of the rate")
    print(f"training step, --amp: {mixed / step:.2f} of the float32 step's time")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.json:
        values = {"float32": full, "bfloat16": low, "done": done, "nominal": nominal, "step": step, "amp_step": mixed}
        Path(options.json).write_text(json.dumps({**values, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
