"""Layer norm and RMS norm (Zhang and Sennrich, 2019, equation 4) of rows, forwards and backwards, without autograd.

Both have one interface, so that the steps that fuse a norm with what stands next to it serve both kinds. RMS norm has
no mean and no bias: `bias` None says which is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of a piece of rows whose intermediate results stay in the processor's cache.
CACHED_NUMBERS = 1 << 18


class Statistics(NamedTuple):
    """What the backward pass needs of each row: its mean (None for RMS norm) and one over its size, float32."""

    mean: Tensor | None
    scale: Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Rows of `x` (..., C) over their root mean square, times `weight` (C,): (..., C) in the dtype of `x`;
    differentiable once.
    """
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        return _RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)


def normalise(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> tuple[Tensor, Statistics]:
    """Rows of `x` (..., C) to mean 0 and variance 1, times `weight` plus `bias` (C,); or by RMS. Dtype of `x`."""
    if bias is not None:
        out, mean, scale = torch.native_layer_norm(x, [x.shape[-1]], weight, bias, eps)
        return out, Statistics(mean, scale)
    if x.device.type == "cpu":
        return _rms_in_pieces(x, weight, eps)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return (wide * scale * weight).to(x.dtype), Statistics(None, scale)


def normalise_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, statistics: Statistics
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of `x`, `weight` and `bias` from that of the output."""
    if bias is not None:
        return torch.ops.aten.native_layer_norm_backward(
            gradient.to(x.dtype), x, [x.shape[-1]], statistics.mean, statistics.scale, weight, bias, [True, True, True]
        )
    return *_rms_backward(gradient.to(x.dtype), x, weight, statistics.scale), None


class _RMSNorm(torch.autograd.Function):
    """PyTorch has no fused one for CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, statistics = normalise(x, weight, None, eps)
        ctx.save_for_backward(x, weight, statistics.scale)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        for_x, for_weight, _ = normalise_backward(gradient, x, weight, None, Statistics(None, scale))
        return for_x, for_weight, None


def _rms_in_pieces(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Statistics]:
    channels = x.shape[-1]
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    scales = torch.empty(*x.shape[:-1], 1, dtype=weight.dtype, device=x.device)
    for values, result, scale in row_pieces(x.reshape(-1, channels), out.view(-1, channels), scales.view(-1, 1)):
        is_narrow = result.dtype != weight.dtype
        wide = values.to(weight.dtype)  # once, for the norm and the product; the same tensor where it is wide already
        torch.linalg.vector_norm(wide, dim=-1, keepdim=True, out=scale)
        scale.square_().div_(channels).add_(eps).rsqrt_()
        torch.mul(wide, scale, out=wide if is_narrow else result).mul_(weight)
        if is_narrow:
            result.copy_(wide)
    return out, Statistics(None, scales)


def _rms_backward(gradient: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `x` and `weight`: r g w - r^3 x mean(g w x), with r one over the root mean square.

    That of a layer norm whose mean was 0, without the part that goes through the mean, -r mean(g w), which is added
    again: PyTorch's kernel takes one pass where plain operations would take six.
    """
    channels = x.shape[-1]
    for_x, for_weight, _ = torch.ops.aten.native_layer_norm_backward(
        gradient, x, [channels], torch.zeros_like(scale), scale, weight, torch.zeros_like(weight), [True, True, False]
    )
    mean = (gradient @ weight.to(gradient.dtype)).unsqueeze(-1).to(scale.dtype) * (scale / channels)
    return for_x.add_(mean.to(for_x.dtype)), for_weight


def row_pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of equally many rows in pieces that stay in a processor's cache; whole on other devices."""
    count, widest = tensors[0].shape[0], max(tensor.shape[1] for tensor in tensors)
    size = max(64, CACHED_NUMBERS // widest) if tensors[0].device.type == "cpu" else max(count, 1)
    yield from zip(*(tensor.split(size) for tensor in tensors), strict=True)
