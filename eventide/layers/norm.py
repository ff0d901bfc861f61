"""Normalisation over channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv
from eventide.ops.conv_norm import conv_norm
from eventide.ops.norm_relu import norm_relu
from eventide.ops.row_norm import rms_norm


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


class RMSChannelNorm(nn.Module):
    """RMS norm over the channels of (B, T, C): no mean, no bias (Zhang and Sennrich, 2019)."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), in the dtype of `x`."""
        return rms_norm(x, self.weight.flatten(), self.eps)


Norm = ChannelNorm | RMSChannelNorm


def norm_parameters(norm: Norm) -> tuple[Tensor, Tensor | None, float]:
    """Weight (C,), bias (C,) (None says RMS) and epsilon, as the fused steps take them."""
    return norm.weight.flatten(), norm.bias.flatten() if isinstance(norm, ChannelNorm) else None, norm.eps


def norm_and_relu(norm: nn.Module, x: Tensor, keep: Tensor | None) -> Tensor:
    """ReLU of the normed `x` (B, T, C), zero where `keep` (1 or B, T) bool is False; `norm` is a norm or nothing."""
    if isinstance(norm, Norm) and not torch.compiler.is_compiling():
        return norm_relu(x, *norm_parameters(norm), keep)
    x = F.relu(norm(x)).to(x.dtype)
    return x if keep is None else x * keep.unsqueeze(-1).to(x.dtype)


def convolve_norm_relu(x: Tensor, convs: nn.ModuleList, norms: nn.ModuleList, canvas: Canvas) -> Tensor:
    """Convolution, norm and ReLU, once per layer: (B, T, C) -> (B, T, channels), zero outside the canvas."""
    for conv, norm in zip(convs, norms, strict=True):
        x = conv(x)
        if canvas.has_margin:  # a norm makes its bias of the zeros that a published mask leaves beyond the end
            x = canvas.keep_valid(x)
        x = norm_and_relu(norm, x, canvas.inside)
    return x


def convolve_and_norm(x: Tensor, conv: Conv, norm: Norm) -> Tensor:
    """Norm of a depth-wise convolution: (B, T, C) -> (B, ceil(T / stride), C)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return norm(conv(x))
    weight, bias, eps = norm_parameters(norm)
    return conv_norm(x, conv.conv.weight.to(x.dtype), weight, bias, conv.stride, eps)


def make_norm(channels: int, *, rms: bool = False) -> Norm:
    """A layer norm over the channels, or an RMS norm."""
    return RMSChannelNorm(channels) if rms else ChannelNorm(channels)


def optional_norm(channels: int, with_norm: bool, *, rms: bool = False) -> nn.Module:
    """A norm, or nothing."""
    return make_norm(channels, rms=rms) if with_norm else nn.Identity()
