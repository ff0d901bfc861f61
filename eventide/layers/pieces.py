"""Long sequences in overlapping pieces where no gradient is kept: memory for little more than input and output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from eventide.layers.canvas import Canvas

# Rows (vectors of all sequences) of a piece, at least; up to twice as many run whole. A graphics card waits for the
# host when pieces are small.
ROWS_AT_ONCE, ROWS_ON_A_CARD = 1 << 12, 1 << 16


def piece_count(x: Tensor) -> int:
    """Pieces along time that `x` (B, T, C) is taken in; 1 where a gradient is kept."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return 1
    return max(1, x.shape[0] * x.shape[1] // (ROWS_AT_ONCE if x.device.type == "cpu" else ROWS_ON_A_CARD))


def in_overlapping_pieces(
    step: Callable[[Tensor, Canvas], Tensor], x: Tensor, canvas: Canvas, *, reach: int | None, stride: int = 1
) -> Tensor:
    """`step(x, canvas)`, (B, T, C) -> (B, ceil(T / stride), K), in pieces along time where that saves memory.

    Output t may depend on the inputs from stride * t - `reach` to stride * t + `reach`, and on positions beyond the
    ends of what it is given as on zeros. `reach` None: on all inputs, so that nothing can be cut.
    """
    batch, length, _ = x.shape
    count = piece_count(x)
    if count == 1 or reach is None:
        return step(x, canvas)
    outputs = -(-length // stride)
    size, margin = -(-outputs // count), -(-reach // stride)
    out: Tensor | None = None
    for start in range(0, outputs, size):
        stop = min(start + size, outputs)
        first, last = max(start - margin, 0), stop + margin
        place = slice(first * stride, last * stride)
        part = step(x[:, place], canvas.cut(place))
        if out is None:
            out = part.new_empty(batch, outputs, part.shape[2])
        out[:, start:stop] = part[:, start - first : stop - first]
    return step(x, canvas) if out is None else out
