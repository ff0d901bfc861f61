"""Convolution with kernel 3 over time by minimal filtering: four matrix products for every two outputs instead of six.

Winograd's F(2, 3) (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1) along time.
In float32 its error is that of a
direct sum (no constant but 1/2 occurs), and the products that are left run at the machine's full matrix rate.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv3(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution with one zero on each side: `x` (B, T, I), `weight` (O, I, 3) -> (B, T, O), differentiable once."""
    return _Conv3.apply(x, weight)


def conv3_transformed(x: Tensor, kernel: Tensor) -> Tensor:
    """The same with a kernel from `transform_kernel`, not differentiable; for weights that stay the same."""
    return _outputs(_products(_neighbourhoods(x), kernel), x.shape[1])


def transform_kernel(weight: Tensor) -> Tensor:
    """Kernel (O, I, 3) to its four combinations (4, I, O)."""
    first, middle, last = weight.permute(2, 1, 0).contiguous().unbind(0)
    out = weight.new_empty(4, *first.shape)
    out[0], out[3] = first, last
    torch.add(first, last, out=out[1])
    out[1].mul_(0.5)
    torch.sub(out[1], middle, alpha=0.5, out=out[2])
    out[1].add_(middle, alpha=0.5)
    return out


def _neighbourhoods(x: Tensor) -> Tensor:
    """(B, T, I) to four combinations of each pair's neighbourhood x[2i - 1 : 2i + 3]: (4, B, ceil(T / 2), I)."""
    if x.shape[1] % 2:
        x = F.pad(x, (0, 0, 0, 1))
    even, odd = x[:, 0::2], x[:, 1::2]
    out = x.new_empty(4, *even.shape)
    torch.sub(odd[:, :-1], odd[:, 1:], out=out[0, :, 1:])
    torch.neg(odd[:, 0], out=out[0, :, 0])
    torch.add(even, odd, out=out[1])
    torch.sub(odd, even, out=out[2])
    torch.sub(even[:, :-1], even[:, 1:], out=out[3, :, :-1])
    out[3, :, -1] = even[:, -1]
    return out


def _products(inputs: Tensor, kernel: Tensor) -> Tensor:
    """(4, B, P, I) and (4, I, O) -> (4, B, P, O)."""
    out = inputs.new_empty(*inputs.shape[:-1], kernel.shape[-1])
    for part in range(4):
        torch.mm(inputs[part].flatten(0, 1), kernel[part], out=out[part].flatten(0, 1))
    return out


def _outputs(products: Tensor, length: int) -> Tensor:
    """(4, B, P, O) to the convolution (B, length, O)."""
    out = products.new_empty(products.shape[1], products.shape[2], 2, products.shape[3])
    shared = torch.add(products[1], products[2])
    torch.add(products[0], shared, out=out[:, :, 0])
    torch.sub(products[1], products[2], out=shared)
    torch.sub(shared, products[3], out=out[:, :, 1])
    return out.flatten(1, 2)[:, :length]


def _kernel_gradient(inputs: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (O, I, 3) of the kernel from the combinations (4, B, P, I) and the gradient (B, T, O) of the output."""
    if gradient.shape[1] % 2:
        gradient = F.pad(gradient, (0, 0, 0, 1))
    even, odd = gradient[:, 0::2].flatten(0, 1), gradient[:, 1::2].flatten(0, 1)
    parts = [
        torch.mm(g.t(), v.flatten(0, 1)) for g, v in zip((even, even + odd, even - odd, -odd), inputs, strict=True)
    ]
    shared, difference = (parts[1] + parts[2]) * 0.5, (parts[1] - parts[2]) * 0.5
    return torch.stack((parts[0] + shared, difference, shared + parts[3]), dim=2)


class _Conv3(torch.autograd.Function):
    """Keeps only the input and the weight for the backward pass; the combinations are cheap to make again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv3_transformed(x, transform_kernel(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight = None, None
        if ctx.needs_input_grad[0]:
            mirrored = weight.flip(2).transpose(0, 1)
            for_x = conv3_transformed(gradient, transform_kernel(mirrored))
        if ctx.needs_input_grad[1]:
            for_weight = _kernel_gradient(_neighbourhoods(x), gradient)
        return for_x, for_weight
