"""Convolution with kernel 3 over time in low precision on CPUs, for inference: one matrix product per sequence.

Vectors lie one after another, so three neighbours are one long row, and the product of all such rows adds up all taps
in full precision. In training the vendor's convolution is as fast, since it needs no rows for the weight's gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 3


def as_matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """(O, I, 3) to what a row of three neighbours is multiplied with, (3 I, O)."""
    return weight.permute(2, 1, 0).to(dtype, memory_format=torch.contiguous_format).flatten(0, 1)


def convolve_rows(x: Tensor, matrix: Tensor) -> Tensor:
    """Convolution with one zero on each side: `x` (B, T, I) and a matrix from `as_matrix` in its dtype -> (B, T, O);
    not differentiable.
    """
    x = x.contiguous()
    out = x.new_empty(*x.shape[:2], matrix.shape[1])
    if x.shape[1] >= TAPS:
        for sequence, result in zip(x, out, strict=True):
            torch.mm(_neighbours(sequence), matrix, out=result[1:-1])
    for position, row in _ends(x):
        torch.mm(row, matrix, out=out[:, position])
    return out


def _neighbours(sequence: Tensor) -> Tensor:
    """(T, I), contiguous -> each position but the ends with its neighbours: (T - 2, 3 I), an overlapping view."""
    return sequence.flatten().unfold(0, TAPS * sequence.shape[1], sequence.shape[1])


def _ends(x: Tensor) -> list[tuple[int, Tensor]]:
    """The first and the last position (one where they are the same) with neighbours, zero outside: (B, 3 I) each."""
    short = max(0, 2 - x.shape[1])
    first = F.pad(x[:, :2], (0, 0, 1, short)).flatten(1)
    last = F.pad(x[:, -2:], (0, 0, short, 1)).flatten(1)
    return [(0, first), (x.shape[1] - 1, last)][: x.shape[1]]
