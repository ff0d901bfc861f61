"""Mixed precision, where a step of several operations decides for itself."""

from __future__ import annotations

import torch
from torch import Tensor

FULL = (torch.float32, torch.float64)


def in_autocast_dtype(x: Tensor) -> Tensor:
    """`x` in the dtype that mixed precision computes in; unchanged without mixed precision, and if it is float64."""
    kind = x.device.type
    if kind == "meta" or x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def in_full_precision(x: Tensor) -> bool:
    """Whether operations on `x`, on a CPU, compute in float32 or float64."""
    return x.dtype in FULL and not torch.is_autocast_enabled("cpu")
