"""Convolutions over time for tensors of shape (B, T, C)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.ops.conv_by_rows import as_matrix, convolve_rows
from eventide.ops.linear import linear_over_time
from eventide.ops.precision import FULL, in_autocast_dtype, in_full_precision
from eventide.ops.winograd import conv3, conv3_transformed, transform_kernel

# Below this many rows our own matrix products cost more than they save.
LEAST_ROWS, LEAST_CHANNELS = 192, 64


def conv_over_time(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution with zero padding of half the kernel: `x` (B, T, I), `weight` (O, I / groups, K), K odd -> (B,
    ceil(T / stride), O).

    The tensors are viewed as (B, C, 1, T) images in channels-last order, for which no copy is needed.
    """
    image = x.transpose(1, 2).unsqueeze(2)
    out = F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), (0, weight.shape[-1] // 2), 1, groups)
    return out.squeeze(2).transpose(1, 2)


def narrow_conv_over_time(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same for few outputs and stride 1: one matrix product for all taps reads `x` once, then the narrow
    results are shifted and added.
    """
    outputs, _, kernel = weight.shape
    taps = F.linear(x, weight.permute(2, 0, 1).flatten(0, 1)).unflatten(-1, (kernel, outputs))
    reach = kernel // 2
    padded = F.pad(taps, (0, 0, 0, 0, reach, reach))
    length = x.shape[1]
    out = padded[:, :length, 0]
    for tap in range(1, kernel):
        out = out + padded[:, tap : tap + length, tap]
    return out if bias is None else out + bias


def _our_products_are_faster(x: Tensor) -> bool:
    """Whether our own matrix products beat the vendor's convolution of `x` (B, T, C): on CPUs, in low precision only
    without gradients.
    """
    if x.device.type != "cpu" or x.shape[0] * x.shape[1] < LEAST_ROWS or torch.compiler.is_compiling():
        return False
    return not torch.is_grad_enabled() or in_full_precision(x)


class Conv(nn.Module):
    """A convolution over time; its parameters live under `conv` as in the published checkpoints."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.stride, self.groups = stride, groups
        few = outputs < LEAST_CHANNELS and kernel * outputs <= inputs
        self.narrow = few and stride == 1 and groups == 1 and kernel > 1
        self.of_three = kernel == 3 and stride == 1 and groups == 1 and min(inputs, outputs) >= LEAST_CHANNELS
        self._kept: tuple[tuple[int, int, torch.dtype | None], Tensor] | None = None
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) -> (B, ceil(T / stride), outputs)."""
        weight, bias = self.conv.weight, self.conv.bias
        if self.narrow:
            return narrow_conv_over_time(x, weight, bias)
        if self.of_three and _our_products_are_faster(x):
            out = self._by_products(in_autocast_dtype(x))
            return out if bias is None else out + bias.to(out.dtype)
        return conv_over_time(x, weight, bias, self.stride, self.groups)

    def train(self, mode: bool = True) -> Conv:
        """Sets the mode; leaving evaluation forgets the kernel."""
        self._kept = None
        return super().train(mode)

    def _by_products(self, x: Tensor) -> Tensor:
        """By our own matrix products: fewer of them in full precision; in low precision they would lose digits."""
        if x.dtype not in FULL:
            return convolve_rows(x, self._kernel(x.dtype))
        if torch.is_grad_enabled():
            return conv3(x, self.conv.weight)
        return conv3_transformed(x, self._kernel(None))

    def _kernel(self, low: torch.dtype | None) -> Tensor:
        """The weight as the products take it, in `low` precision or its own, kept in evaluation as long as the weight
        stays the same.
        """
        weight = self.conv.weight
        make = transform_kernel if low is None else partial(as_matrix, dtype=low)
        if self.training or weight.is_inference():
            return make(weight)
        version = (weight._version, weight.data_ptr(), low)
        if self._kept is None or self._kept[0] != version:
            self._kept = (version, make(weight.detach()))
        return self._kept[1]


class Pointwise(nn.Conv1d):
    """A convolution with kernel 1, that is a linear map of each time step; keeps the published (O, I, 1) weight
    shape.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """(B, T, inputs) -> (B, T, outputs), times `scale` (outputs,)."""
        return linear_over_time(x, *self.matrix(scale))

    def matrix(self, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weight (outputs, inputs) and bias (outputs,) of the linear map, times `scale` (outputs,)."""
        weight, bias = self.weight.squeeze(-1), cast(Tensor, self.bias)
        return (weight, bias) if scale is None else (weight * scale[:, None], bias * scale)


def convolutions_reach(convs: Iterable[nn.Module]) -> int:
    """How far from its own position an output of convolutions of stride 1, one after another, sees."""
    return sum(cast(Conv, conv).conv.kernel_size[0] // 2 for conv in convs)


def _largest_neighbour(x: Tensor, stride: int, reach: int) -> Tensor:
    """The pooling of `max_pool_over_time` on views of the rows as they lie, which the vendor's would transpose first;
    not for gradients, which ties would share.
    """
    out = x[:, ::stride].clone()
    for offset in range(1, reach + 1):
        after = x[:, offset::stride]
        before = x[:, stride - offset :: stride][:, : out.shape[1] - 1]  # the first position has none before it
        for neighbours, ours in ((after, out[:, : after.shape[1]]), (before, out[:, 1:])):
            torch.maximum(ours, neighbours, out=ours)
    return out


def max_pool_over_time(x: Tensor, stride: int, inside: Tensor | None) -> Tensor:
    """Maximum over `stride` + 1 neighbours (one more where that is even), every `stride`-th position: (B, T, C) ->
    (B, ceil(T / stride), C). Positions outside the canvas never win.
    """
    kernel = stride + 1 + stride % 2
    if inside is not None:
        x = x.masked_fill(~inside.unsqueeze(-1), -torch.inf)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        pooled = F.max_pool1d(x.transpose(1, 2), kernel, stride, kernel // 2).transpose(1, 2)
    else:
        pooled = _largest_neighbour(x, stride, kernel // 2)
    if inside is not None:
        pooled = pooled.masked_fill(~inside[:, ::stride].unsqueeze(-1), 0.0)
    return pooled
