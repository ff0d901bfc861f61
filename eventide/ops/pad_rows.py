"""Zeros before and after the rows of a sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad_rows(x: Tensor, before: int, after: int) -> Tensor:
    """`x` (..., T, C) -> (..., before + T + after, C), zero at the ends; `x` itself where nothing is added.

    Without gradients only the ends are cleared; PyTorch's own clears the whole result first.
    """
    if not before and not after:
        return x
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.pad(x, (0, 0, before, after))
    end = before + x.shape[-2]
    out = x.new_empty(*x.shape[:-2], end + after, x.shape[-1])
    out[..., :before, :] = 0
    out[..., before:end, :] = x
    out[..., end:, :] = 0
    return out
