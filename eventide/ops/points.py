"""Pyramid points: where each level looks, and which distances it answers for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """All points of a pyramid, finest level first; every tensor (F,) float32."""

    position: Tensor  # on the feature grid
    stride: Tensor  # of the point's level
    nearest: Tensor  # least distance to the farther boundary that the level answers for, in grid units
    farthest: Tensor  # greatest


def pyramid_points(
    lengths: Sequence[int],
    strides: Sequence[int],
    regression_range: Sequence[tuple[float, float]],
    device: torch.device | str | None = None,
) -> Points:
    """The points of levels with `lengths` positions and `strides`: position i of a level lies at i * stride."""
    position, stride, nearest, farthest = [], [], [], []
    for length, step, (low, high) in zip(lengths, strides, regression_range, strict=True):
        grid = torch.arange(length, dtype=torch.float32, device=device) * step
        position.append(grid)
        stride.append(torch.full_like(grid, step))
        nearest.append(torch.full_like(grid, low))
        farthest.append(torch.full_like(grid, high))
    return Points(torch.cat(position), torch.cat(stride), torch.cat(nearest), torch.cat(farthest))
