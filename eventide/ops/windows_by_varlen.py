"""Windowed attention by PyTorch's flash attention for sequences of many lengths, which knows windows (CUDA)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

varlen_attn: Any = None
try:
    from torch.nn.attention import varlen
except ImportError:  # PyTorch before 2.10
    pass
else:
    varlen_attn = varlen.varlen_attn

LARGEST_HEAD = 256  # channels; the kernel's limit


def can_use_varlen(q: Tensor, heads: int) -> bool:
    """Whether the kernel takes this: half precision on an NVIDIA card since Ampere, heads of a multiple of 8."""
    if varlen_attn is None or q.device.type != "cuda" or q.dtype not in (torch.float16, torch.bfloat16):
        return False
    width = q.shape[2] // heads
    return width % 8 == 0 and width <= LARGEST_HEAD and torch.cuda.get_device_capability(q.device) >= (8, 0)


def windows_by_varlen(q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None = None) -> Tensor:
    """As `windows_by_matrices`, without a bias; `valid` must be True up to each sequence's end and False from there.

    Nothing is packed and no length is read on the host: every row counts as two sequences, what is valid and what is
    padding, which attend each to itself.
    """
    batch, length, channels = q.shape
    width = channels // heads
    packed = [x.reshape(batch * length, -1, width) for x in (q, k, v)]
    bounds = sequence_bounds(batch, length, valid, q.device)
    grouped = k.shape[2] != channels
    out: Tensor = varlen_attn(*packed, bounds, bounds, length, length, window_size=(half, half), enable_gqa=grouped)
    return out.reshape(batch, length, channels)


def sequence_bounds(batch: int, length: int, valid: Tensor | None, device: torch.device) -> Tensor:
    """Where sequences begin and end in (batch * length) rows: (batch + 1,) int32, or (2 batch + 1,) with padding."""
    starts = torch.arange(batch + 1, device=device, dtype=torch.int32) * length
    if valid is None:
        return starts
    ends = starts[:-1] + valid.sum(1, dtype=torch.int32)
    return torch.cat((torch.stack((starts[:-1], ends), dim=1).flatten(), starts[-1:]))
