"""Normalisation over channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, T, C); keeps the published (1, C, 1) parameter shape."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return F.layer_norm(x, x.shape[-1:], self.weight.flatten(), self.bias.flatten(), self.eps)


def make_norm(channels: int, with_norm: bool) -> nn.Module:
    """A channel norm, or nothing."""
    return ChannelNorm(channels) if with_norm else nn.Identity()
