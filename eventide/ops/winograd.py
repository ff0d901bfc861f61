"""Convolution with kernel 3 over time by minimal filtering: six matrix products for four outputs instead of twelve.

Winograd's F(4, 3) (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, sections 3 and 4.1) along
time, on the points 0, 1, -1, 2, -2 and infinity. Along one axis its constants are small: in float32 the error is a few
times that of a direct sum. The products that are left run at the machine's full matrix rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PARTS, GROUP = 6, 4  # products, for that many neighbouring outputs
# Numbers of a piece of the input; its combinations and their products are half as many again, and stay in the cache.
CACHED_NUMBERS = 1 << 20


def conv3(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution with one zero on each side: `x` (B, T, I), `weight` (O, I, 3) -> (B, T, O), differentiable once."""
    return _Conv3.apply(x, weight)


def conv3_transformed(x: Tensor, kernel: Tensor) -> Tensor:
    """The same with a kernel from `transform_kernel`, not differentiable; for weights that stay the same."""
    out = x.new_empty(x.shape[0], x.shape[1], kernel.shape[-1])
    for sequence, start, stop, piece in _pieces(x):
        products = _products(_combine_inputs(piece), kernel)
        _combine_products(products, out[sequence, start:stop])
    return out


def transform_kernel(weight: Tensor) -> Tensor:
    """Kernel (O, I, 3) to its six combinations (6, I, O)."""
    first, middle, last = weight.permute(2, 1, 0).contiguous().unbind(0)
    out = weight.new_empty(PARTS, *first.shape)
    torch.mul(first, 1 / 4, out=out[0])
    out[5] = last
    outer = first + last
    torch.add(outer, middle, out=out[1]).mul_(-1 / 6)
    torch.sub(outer, middle, out=out[2]).mul_(-1 / 6)
    torch.add(first, last, alpha=4, out=outer)
    torch.add(outer, middle, alpha=2, out=out[3]).mul_(1 / 24)
    torch.sub(outer, middle, alpha=2, out=out[4]).mul_(1 / 24)
    return out


def _pieces(x: Tensor) -> Iterator[tuple[int, int, int, Tensor]]:
    """`x` (B, T, I) in pieces small enough that their combinations stay in the processor's cache.

    Sequence, start, stop, and the rows with one neighbour on each side, zeros where there is none: (4 P + 2, I) for P
    groups of outputs.
    """
    length = x.shape[1]
    size = max(256, CACHED_NUMBERS // x.shape[2] // GROUP * GROUP)
    for sequence in range(x.shape[0]):
        for start in range(0, length, size):
            stop = min(start + size, length)
            left, right = int(start == 0), -(stop - start) % GROUP + int(stop == length)
            piece = x[sequence, start - 1 + left : min(stop + 1, length)]
            if stop < length:
                right = 0  # all pieces but the last hold whole groups
            yield sequence, start, stop, F.pad(piece, (0, 0, left, right)) if left or right else piece


def _combine_inputs(piece: Tensor) -> Tensor:
    """(4 P + 2, I) to six combinations of each group's neighbourhood: (6, P, I)."""
    end = piece.shape[0] - 2
    first, second, third, fourth = (piece[offset : offset + end : GROUP] for offset in range(GROUP))
    fifth, sixth = (piece[offset : offset + end : GROUP] for offset in (4, 5))
    out = piece.new_empty(PARTS, *first.shape)
    torch.sub(fifth, third, alpha=5, out=out[0]).add_(first, alpha=4)
    torch.sub(sixth, fourth, alpha=5, out=out[5]).add_(second, alpha=4)
    even, odd = torch.sub(fifth, third, alpha=4), torch.sub(fourth, second, alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(fifth, third, out=even)
    torch.sub(fourth, second, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    return out


def _products(inputs: Tensor, kernel: Tensor) -> Tensor:
    """(6, P, I) and (6, I, O) -> (6, P, O)."""
    out = inputs.new_empty(*inputs.shape[:-1], kernel.shape[-1])
    for part in range(PARTS):
        torch.mm(inputs[part], kernel[part], out=out[part])
    return out


def _combine_products(products: Tensor, out: Tensor) -> None:
    """(6, P, O) to the convolution at the P groups, into `out` (4 P or up to 3 fewer, O); overwrites products."""
    first, second, third, fourth, fifth, sixth = products.unbind(0)
    sums = torch.add(second, third)
    differences = second.sub_(third)
    torch.add(fourth, fifth, out=third)
    fourth.sub_(fifth)
    rows = [out[offset::GROUP] for offset in range(GROUP)]
    for row, base, far, times in (
        (0, sums, third, 1),
        (1, differences, fourth, 2),
        (2, sums, third, 4),
        (3, differences, fourth, 8),
    ):
        count = rows[row].shape[0]  # the last group may be cut short
        torch.add(base[:count], far[:count], alpha=times, out=rows[row])
    rows[0].add_(first)
    rows[3].add_(sixth[: rows[3].shape[0]])


def _kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (O, I, 3) of the kernel from the input (B, T, I) and the gradient (B, T, O) of the output."""
    parts = x.new_zeros(PARTS, gradient.shape[2], x.shape[2])
    for sequence, start, stop, piece in _pieces(x):
        inputs, rows = _combine_inputs(piece), gradient[sequence, start:stop]
        if missing := -rows.shape[0] % GROUP:
            rows = F.pad(rows, (0, 0, 0, missing))
        for part, combined in enumerate(_combine_gradients(rows)):
            parts[part].addmm_(combined.t(), inputs[part])
    first, second, third, fourth, fifth, sixth = parts.unbind(0)
    both, far = (second + third) / -6, (fourth + fifth) / 24
    middle = (third - second) / 6 + (fourth - fifth) / 12
    return torch.stack((first / 4 + both + far, middle, both + 4 * far + sixth), dim=2)


def _combine_gradients(rows: Tensor) -> tuple[Tensor, ...]:
    """(4 P, O) to six combinations of each group, each (P, O)."""
    first, second, third, fourth = (rows[offset::GROUP] for offset in range(GROUP))
    even, odd = first + third, second + fourth
    far_even, far_odd = torch.add(first, third, alpha=4), torch.add(second, fourth, alpha=4)
    far = torch.add(far_even, far_odd, alpha=2), torch.sub(far_even, far_odd, alpha=2)
    return first, even + odd, even - odd, *far, fourth


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
