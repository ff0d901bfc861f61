"""The machine's matrix rate, and what share of it a training step of the network reaches.

python -m benchmarks.matrix_rate [--json FILE]
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import arguments, machine, timed
from benchmarks.network_worker import Ours


def rate(dtype: torch.dtype, runs: int) -> float:
    """Operations per second of products of the network's shapes, median."""
    a, b = torch.randn(4608, 1536).to(dtype), torch.randn(1536, 512).to(dtype)
    operations = 2 * 4608 * 1536 * 512
    torch.mm(a, b)
    return operations / statistics.median(timed(lambda: torch.mm(a, b)) for _ in range(runs))


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__, runs=15).parse_args()
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(Path(name))
        with FlopCounterMode(display=False) as counter:
            ours.step()
        operations = counter.get_total_flops()
        step = statistics.median(timed(ours.step) for _ in range(3))
        mixed = statistics.median(timed(lambda: ours.step(amp=True)) for _ in range(3))
    full, low = rate(torch.float32, options.runs), rate(torch.bfloat16, options.runs)
    print(f"matrix rate: float32 {full / 1e9:.0f}, bfloat16 {low / 1e9:.0f} GFLOP/s")
    print(f"training step, float32: {operations / 1e9:.0f} GFLOP done, {operations / step / full:.0%} of the rate")
    print(f"training step, --amp: {mixed / step:.2f} of the float32 step's time")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))


if __name__ == "__main__":
    main()
