"""Ways of the CPU kernels of inference beside the vendor's: convolutions, linear maps, pooling, the look for NaN.

"Ours" is the way that the package takes, "theirs" another way of PyTorch to the same result. One sequence, the sizes of
the THUMOS14 configuration.

    python -m benchmarks.convolutions [--length 9000] [--runs 25] [--json FILE]
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.common import Work, arguments, compare, report
from eventide.engine.memory import keep_freed_memory
from eventide.layers.conv import conv_over_time, max_pool_over_time
from eventide.ops.conv_by_rows import as_matrix, convolve_rows
from eventide.ops.linear import linear_over_time
from eventide.ops.winograd import conv3_transformed, transform_kernel

CHANNELS, STREAM = 512, 2048
LINEAR = ((512, 512), (512, 2752), (1376, 512))


def cases(length: int) -> dict[str, tuple[Work, Work]]:
    """Ours and the vendor's, by what they compute."""
    found: dict[str, tuple[Work, Work]] = {}
    x, weight = torch.randn(1, length, CHANNELS), torch.randn(CHANNELS, CHANNELS, 3)
    kernel = transform_kernel(weight)
    found["kernel 3, float32: minimal filtering"] = (
        lambda: conv3_transformed(x, kernel),
        lambda: conv_over_time(x, weight, None),
    )
    low, low_weight = x.bfloat16(), weight.bfloat16()
    matrix = as_matrix(weight, torch.bfloat16)
    found["kernel 3, bfloat16: rows of neighbours"] = (
        lambda: convolve_rows(low, matrix),
        lambda: conv_over_time(low, low_weight, None),
    )
    for dtype in (torch.float32, torch.bfloat16):
        for inputs, outputs in LINEAR:
            found[f"linear {inputs} to {outputs}, {str(dtype).removeprefix('torch.')}"] = linear(
                length, inputs, outputs, dtype
            )
    found["pooling by 2, float32: on rows"] = (
        lambda: max_pool_over_time(x, 2, None),
        lambda: F.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2).contiguous(),
    )
    stream = torch.randn(length, STREAM)
    found["look for NaN and Inf, 2048 channels: smallest and largest"] = (
        lambda: torch.aminmax(stream),
        lambda: torch.isfinite(stream).all(),
    )
    return found


def linear(length: int, inputs: int, outputs: int, dtype: torch.dtype) -> tuple[Work, Work]:
    """Our linear map, and the other one of the two ways: a plain product in float32, kernel 1 in bfloat16."""
    x, weight = torch.randn(1, length, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    bias = torch.randn(outputs).to(dtype)
    ours = partial(linear_over_time, x, weight, bias)
    if dtype == torch.bfloat16:
        return ours, partial(conv_over_time, x, weight.unsqueeze(-1), bias)
    return ours, partial(F.linear, x, weight, bias)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, runs=25)
    parser.add_argument("--length", type=int, default=9000, help="vectors (%(default)s)")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    with torch.inference_mode():
        rows = [compare(name, *both, options.runs) for name, both in cases(options.length).items()]
    report(rows, options.json, length=options.length)


if __name__ == "__main__":
    main()
