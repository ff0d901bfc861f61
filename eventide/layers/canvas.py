"""Which positions of a padded batch are real, and which lie on the canvas of their sequence.

Each sequence is computed on a canvas of its own length P >= T. Convolutions and pooling see what norms leave between
T and P (their biases) and
nothing beyond P, so a sequence has the same result alone, in a batch, or padded further. `own` padding has P = T;
`published` padding reproduces ActionFormer, whose canvas is the length it padded a lone recording to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Canvas:
    """Masks and positions of one pyramid level.

    `valid` (B, T) bool: the position holds a real vector. `inside` (B, T) bool: the position lies on its sequence's
    canvas.
    None stands for all True, so that a batch without padding pays for no masking. `rotation` (T, D / 2, 2): the angles
    that rotary embeddings turn each position by (`ops.rope.rotation_table`), None where nothing is turned. Positions
    count in steps of the level, so that neighbours lie equally far apart on all levels.
    """

    valid: Tensor | None
    inside: Tensor | None
    rotation: Tensor | None = None

    def keep_valid(self, x: Tensor) -> Tensor:
        """`x` (B, T, C) with zeros where no real vector is."""
        return x if self.valid is None else x * self.valid.unsqueeze(-1).to(x.dtype)

    def keep_inside(self, x: Tensor) -> Tensor:
        """`x` (B, T, C) with zeros outside the canvas."""
        return x if self.inside is None else x * self.inside.unsqueeze(-1).to(x.dtype)

    @property
    def has_margin(self) -> bool:
        """Whether some canvas may reach beyond the real vectors."""
        return self.valid is not self.inside

    def cut(self, place: slice) -> Canvas:
        """The masks and positions of a piece of the level."""
        rotation = None if self.rotation is None else self.rotation[place]
        valid = None if self.valid is None else self.valid[:, place]
        if self.valid is self.inside:
            return Canvas(valid, valid, rotation)
        return Canvas(valid, None if self.inside is None else self.inside[:, place], rotation)

    def downsample(self, stride: int) -> Canvas:
        """The masks of a level with every `stride`-th position."""
        rotation = None if self.rotation is None else self.rotation[: -(-self.rotation.shape[0] // stride)]
        valid = None if self.valid is None else self.valid[:, ::stride]
        if self.valid is self.inside:
            return Canvas(valid, valid, rotation)
        return Canvas(valid, None if self.inside is None else self.inside[:, ::stride], rotation)


@dataclass(frozen=True)
class CanvasRule:
    """How long the canvas of a sequence is.

    `padding` is "own" or "published"; `max_seq_len` the length short sequences were padded to, `divisor` the number
    that longer ones were padded to a
    multiple of, `margin` the positions beyond a sequence's end that must be computed so that its last valid outputs
    are right.
    """

    padding: str
    max_seq_len: int
    divisor: int
    margin: int

    def place(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Canvas, Tensor]:
        """Puts `features` (B, C, T) with `mask` (B, T) on their canvases.

        Returns features (B, T', C), the canvas of the finest level and the canvas lengths (B,) int64. T' exceeds T by
        the margin under published padding.
        """
        x = features.transpose(1, 2)
        if mask is not None:  # whatever a caller left in the padding must not reach a convolution, NaN included
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        batch, length, _ = x.shape
        if self.padding == "own":
            lengths = _lengths(mask, batch, length, x.device)
            return x, Canvas(mask, mask), lengths
        lengths = _lengths(mask, batch, length, x.device)
        longer = (lengths + self.divisor - 1) // self.divisor * self.divisor
        canvas_lengths = torch.where(lengths <= self.max_seq_len, torch.full_like(lengths, self.max_seq_len), longer)
        x = torch.nn.functional.pad(x, (0, 0, 0, self.margin))
        positions = torch.arange(length + self.margin, device=x.device)
        return x, Canvas(positions < lengths[:, None], positions < canvas_lengths[:, None]), canvas_lengths


def _lengths(mask: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
    if mask is None:
        return torch.full((batch,), length, device=device, dtype=torch.int64)
    return mask.sum(dim=1)
