"""Every kernel for windowed attention that runs on a device, side by side: forward, and forward with backward.

THUMOS14 sizes: 4 heads of 128 channels, window 19. FlexAttention, which the package does not use, runs too on CUDA.

    python -m benchmarks.attention_kernels [--device cuda] [--runs 7] [--length 2304] [--batch 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from eventide.engine.devices import pick_device
from eventide.engine.memory import keep_freed_memory
from eventide.ops.windows_by_matrices import windows_by_matrices
from eventide.ops.windows_by_sdpa import has_flash_on_cpu, windows_by_flash_on_cpu, windows_by_sdpa
from eventide.ops.windows_by_varlen import can_use_varlen, windows_by_varlen

HEADS, WIDTH, HALF = 4, 128, 9
Kernel = Callable[..., Tensor]


def kernels(q: Tensor) -> dict[str, Kernel]:
    """The kernels that take `q` (B, T, C)."""
    found: dict[str, Kernel] = {"matrices over blocks": windows_by_matrices, "SDPA over blocks": windows_by_sdpa}
    if q.device.type == "cpu" and has_flash_on_cpu():
        found["CPU flash over blocks"] = windows_by_flash_on_cpu
    if can_use_varlen(q, HEADS):
        found["varlen_attn"] = windows_by_varlen
    if q.device.type == "cuda":
        found["FlexAttention, compiled"] = flex_kernel(q)
    return found


def flex_kernel(q: Tensor) -> Kernel:
    """FlexAttention with a window mask made once for the length of `q`."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    length = q.shape[1]
    mask = create_block_mask(lambda b, h, i, j: (i - j).abs() <= HALF, None, None, length, length, device=str(q.device))
    compiled = torch.compile(flex_attention)

    def run(q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int) -> Tensor:
        parts = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        out: Tensor = compiled(*parts, block_mask=mask)
        return out.transpose(1, 2).flatten(2)

    return run


def milliseconds(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Median wall-clock time of a call, after two that warm up."""
    taken = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[2:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--length", type=int, default=2304)
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()
    keep_freed_memory()
    device = pick_device(options.device)
    print(f"{'dtype':10} {'kernel':26} {'forward':>10} {'with backward':>14}   on {device}, {options.runs} runs")
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        q, k, v, direction = torch.randn(4, options.batch, options.length, HEADS * WIDTH, device=device).to(dtype)
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        for name, kernel in kernels(q).items():

            def forward(kernel: Kernel = kernel, inputs: list[Tensor] = inputs) -> Tensor:
                return kernel(*inputs, heads=HEADS, half=HALF)

            def both(run: Callable[[], Tensor] = forward, direction: Tensor = direction) -> None:
                run().backward(direction)

            with torch.no_grad():
                alone = milliseconds(forward, device, options.runs)
            whole = milliseconds(both, device, options.runs)
            print(f"{str(dtype).removeprefix('torch.'):10} {name:26} {alone:7.2f} ms {whole:11.2f} ms")


if __name__ == "__main__":
    main()
