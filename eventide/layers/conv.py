"""Convolutions over time for tensors of shape (B, T, C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_over_time(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution with zero padding of half the kernel: `x` (B, T, I), `weight` (O, I / groups, K), K odd -> (B, ceil(T / stride), O).

    The tensors are viewed as (B, C, 1, T) images in channels-last order, for which no copy is needed.
    """
    image = x.transpose(1, 2).unsqueeze(2)
    out = F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), (0, weight.shape[-1] // 2), 1, groups)
    return out.squeeze(2).transpose(1, 2)


class Conv(nn.Module):
    """A convolution over time; its parameters live under `conv` as in the published checkpoints."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.stride, self.groups = stride, groups
        if bias:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) -> (B, ceil(T / stride), outputs)."""
        return conv_over_time(x, self.conv.weight, self.conv.bias, self.stride, self.groups)


class Pointwise(nn.Conv1d):
    """A convolution with kernel 1, that is a linear map of each time step; keeps the published (O, I, 1) weight shape."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) -> (B, T, outputs)."""
        return F.linear(x, self.weight.squeeze(-1), self.bias)


def max_pool_over_time(x: Tensor, stride: int, inside: Tensor | None) -> Tensor:
    """Maximum over `stride` + 1 neighbours, every `stride`-th position: (B, T, C) -> (B, ceil(T / stride), C). Positions outside the canvas never win."""
    if inside is not None:
        x = x.masked_fill(~inside.unsqueeze(-1), -torch.inf)
    pooled = F.max_pool1d(x.transpose(1, 2), stride + 1, stride, (stride + 1) // 2).transpose(1, 2)
    if inside is not None:
        pooled = pooled.masked_fill(~inside[:, ::stride].unsqueeze(-1), 0.0)
    return pooled
