"""Convolution with kernel 3 over time by minimal filtering: six matrix products for four outputs instead of twelve.

Winograd's F(4, 3) (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, sections 3 and 4.1) along
time, on the points 0, 1, -1, 2, -2 and infinity. Along one axis its constants are small: in float32 the error is a few
times that of a direct sum. The products that are left run at the machine's full matrix rate; what is before and after
them is a product of a small matrix with each group of neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from eventide.ops.pad_rows import pad_rows

PARTS, GROUP = 6, 4  # products, for that many neighbouring outputs
# Numbers of a piece of the input; its combinations and their products are half as many again, and stay in the cache.
CACHED_NUMBERS = 1 << 20

# The matrices of the paper: B^T of six neighbouring inputs, G of the three taps, A^T of the six products.
OF_INPUTS = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
OF_TAPS = (
    torch.tensor(
        [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
        dtype=torch.float64,
    )
    / 24
)
OF_PRODUCTS = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)


def conv3(x: Tensor, weight: Tensor) -> Tensor:
    """Convolution with one zero on each side: `x` (B, T, I), `weight` (O, I, 3) -> (B, T, O), differentiable once."""
    return _Conv3.apply(x, weight)


def conv3_transformed(x: Tensor, kernel: Tensor) -> Tensor:
    """The same with a kernel from `transform_kernel`, not differentiable; for weights that stay the same."""
    out = x.new_empty(x.shape[0], x.shape[1], kernel.shape[-1])
    for sequence, start, stop, piece in _pieces(x):
        _combine_products(_products(_combine_inputs(piece), kernel), out[sequence, start:stop])
    return out


def transform_kernel(weight: Tensor) -> Tensor:
    """Kernel (O, I, 3) to its six combinations (6, I, O)."""
    taps = weight.permute(2, 1, 0)
    return (OF_TAPS.to(weight) @ taps.flatten(1)).view(PARTS, *taps.shape[1:])


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
            yield sequence, start, stop, pad_rows(piece, left, right)


def _combine_inputs(piece: Tensor) -> Tensor:
    """(4 P + 2, I) to six combinations of each group's neighbourhood: (P, 6, I)."""
    neighbours = piece.unfold(0, PARTS, GROUP).transpose(1, 2)  # overlapping views of the rows
    return torch.bmm(OF_INPUTS.to(piece).expand(len(neighbours), -1, -1), neighbours)


def _products(inputs: Tensor, kernel: Tensor) -> Tensor:
    """(P, 6, I) and (6, I, O) -> (P, 6, O)."""
    out = inputs.new_empty(*inputs.shape[:-1], kernel.shape[-1])
    for part in range(PARTS):
        torch.mm(inputs[:, part], kernel[part], out=out[:, part])
    return out


def _combine_products(products: Tensor, out: Tensor) -> None:
    """(P, 6, O) to the convolution at the P groups, into `out` (4 P or up to 3 fewer, O)."""
    matrix, whole = OF_PRODUCTS.to(products), out.shape[0] // GROUP
    groups = out[: GROUP * whole].unflatten(0, (whole, GROUP))
    torch.bmm(matrix.expand(whole, -1, -1), products[:whole], out=groups)
    if rest := out.shape[0] % GROUP:  # the last group is cut short
        torch.mm(matrix[:rest], products[whole], out=out[GROUP * whole :])


def _kernel_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient (O, I, 3) of the kernel from the input (B, T, I) and the gradient (B, T, O) of the output."""
    parts = x.new_zeros(PARTS, gradient.shape[2], x.shape[2])
    matrix = OF_PRODUCTS.t().to(x)
    for sequence, start, stop, piece in _pieces(x):
        inputs, rows = _combine_inputs(piece), gradient[sequence, start:stop]
        rows = pad_rows(rows, 0, -rows.shape[0] % GROUP)
        combined = torch.bmm(matrix.expand(len(inputs), -1, -1), rows.unflatten(0, (-1, GROUP)))
        for part in range(PARTS):
            parts[part].addmm_(combined[:, part].t(), inputs[:, part])
    return (OF_TAPS.t().to(x) @ parts.flatten(1)).view(3, *parts.shape[1:]).permute(1, 2, 0).contiguous()


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
