"""The rate at which this machine multiplies matrices: what a network's speed is measured against."""

from __future__ import annotations

import statistics

import torch

from eventide.engine.measure.clock import now

# Rows, inner size, columns. On CPUs the shape of the convolutions of the THUMOS14 configuration; GPUs need more to be
# filled.
CPU_SHAPE, DEVICE_SHAPE = (4608, 1536, 512), (8192, 4096, 4096)


class MatrixProduct:
    """One matrix product on a device; made once, run many times."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.shape = CPU_SHAPE if device.type == "cpu" else DEVICE_SHAPE
        rows, inner, columns = self.shape
        self.a = torch.randn(rows, inner, device=device).to(dtype)
        self.b = torch.randn(inner, columns, device=device).to(dtype)
        torch.mm(self.a, self.b)  # the first call chooses a kernel

    def rate(self, runs: int = 3) -> float:
        """Operations (two per multiplication) per second, median of some runs."""
        rows, inner, columns = self.shape
        seconds = []
        for _ in range(runs):
            start = now(self.device)
            torch.mm(self.a, self.b)
            seconds.append(now(self.device) - start)
        return 2.0 * rows * inner * columns / statistics.median(seconds)


def matrix_rate(device: torch.device, dtype: torch.dtype, runs: int = 15) -> float:
    """Operations per second of a large matrix product, median of `runs`."""
    return MatrixProduct(device, dtype).rate(runs)
