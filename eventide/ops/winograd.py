"""Convolution with kernel 3 over time by minimal filtering: four matrix products for every two outputs instead of six.

Winograd's F(2, 3) (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1) along time.
In float32 its error is that of a
direct sum (no constant but 1/2 occurs), and the products that are left run at the machine's full matrix rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of one combination of a piece; four combinations and their products are held at a time.
CACHED_NUMBERS = 1 << 20


def conv3(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution with one zero on each side: `x` (B, T, I), `weight` (O, I, 3) -> (B, T, O), differentiable once."""
    return _Conv3.apply(x, weight)


def conv3_transformed(x: Tensor, kernel: Tensor) -> Tensor:
    """The same with a kernel from `transform_kernel`, not differentiable; for weights that stay the same."""
    out = x.new_empty(x.shape[0], x.shape[1], kernel.shape[-1])
    for place, piece in _pieces(x):
        _outputs(_products(_neighbourhoods(piece), kernel), out[place])
    return out


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


def _pieces(x: Tensor) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """`x` (B, T, I) in pieces small enough that their combinations stay in the processor's cache.

    Each with its place, and with one neighbour on each side, zeros where there is none: (1, 2 P + 2, I) for P pairs.
    """
    length = x.shape[1]
    size = max(256, CACHED_NUMBERS // x.shape[2] // 2 * 2)
    for sequence in range(x.shape[0]):
        for start in range(0, length, size):
            stop = min(start + size, length)
            left, right = int(start == 0), (stop - start) % 2 + int(stop == length)
            piece = x[sequence : sequence + 1, start - 1 + left : min(stop + 1, length)]
            place = (slice(sequence, sequence + 1), slice(start, stop))
            yield place, F.pad(piece, (0, 0, left, right)) if left or right else piece


def _neighbourhoods(piece: Tensor) -> Tensor:
    """(1, 2 P + 2, I) to four combinations of each pair's neighbourhood: (4, 1, P, I)."""
    end = piece.shape[1] - 2
    first, second, third, fourth = (piece[:, offset : offset + end : 2] for offset in range(4))
    out = piece.new_empty(4, *first.shape)
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])
    return out


def _products(inputs: Tensor, kernel: Tensor) -> Tensor:
    """(4, B, P, I) and (4, I, O) -> (4, B, P, O)."""
    out = inputs.new_empty(*inputs.shape[:-1], kernel.shape[-1])
    for part in range(4):
        torch.mm(inputs[part].flatten(0, 1), kernel[part], out=out[part].flatten(0, 1))
    return out


def _outputs(products: Tensor, out: Tensor) -> None:
    """(4, 1, P, O) to the convolution at the P pairs, into `out` (1, 2 P or 2 P - 1, O)."""
    pairs, length = products.shape[2], out.shape[1]
    shared = torch.add(products[1], products[2])
    torch.add(products[0], shared, out=out[:, 0::2])
    torch.sub(products[1], products[2], out=shared)
    whole = pairs - length % 2
    torch.sub(shared[:, :whole], products[3][:, :whole], out=out[:, 1::2])


def _kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (O, I, 3) of the kernel from the input (B, T, I) and the gradient (B, T, O) of the output."""
    parts = x.new_zeros(4, gradient.shape[2], x.shape[2])
    for place, piece in _pieces(x):
        inputs, rows = _neighbourhoods(piece), gradient[place][0]
        if rows.shape[0] % 2:
            rows = F.pad(rows, (0, 0, 0, 1))
        even, odd = rows[0::2], rows[1::2]
        for part, combined in enumerate((even, even + odd, even - odd, -odd)):
            parts[part].addmm_(combined.t(), inputs[part, 0])
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
            for_weight = _kernel_gradient(x, gradient)
        return for_x, for_weight
