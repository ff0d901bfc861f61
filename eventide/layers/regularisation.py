"""Stochastic depth and learned scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A learned factor, one number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class AffineDropPath(nn.Module):
    """Stochastic depth per sample with a learned scale per channel, small at first (Touvron et al., Going deeper
    with Image Transformers, 2021, LayerScale).

    The scale is for the linear map before it, which multiplies its weights by it: one product less over the sequence,
    and nothing to keep for it.
    """

    def __init__(self, channels: int, drop_probability: float, initial_scale: float = 1e-4):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, channels, 1), initial_scale))
        self.drop_probability = drop_probability

    def forward(self, x: Tensor) -> Tensor:
        """Already scaled (B, T, C) -> (B, T, C); whole samples are dropped in training, the rest made larger to keep
        the mean.
        """
        if not self.training or self.drop_probability == 0:
            return x
        keep = 1.0 - self.drop_probability
        kept = torch.rand(x.shape[0], 1, 1, dtype=x.dtype, device=x.device) < keep
        return x * (kept.to(x.dtype) / keep)


def channel_scale(drop_path: nn.Module) -> Tensor | None:
    """The scale (C,) of an AffineDropPath, None of anything else."""
    return drop_path.scale.flatten() if isinstance(drop_path, AffineDropPath) else None
