"""Backbones: features to a pyramid of sequences, each level half as long as the one below (ActionFormer, section
3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eventide.layers.blocks import BlockStyle, ConvBlock, TransformerBlock
from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, convolutions_reach
from eventide.layers.norm import convolve_norm_relu, optional_norm
from eventide.layers.pieces import in_overlapping_pieces
from eventide.layers.position import place_positions, sinusoid_table
from eventide.ops.rope import rotation_table


@dataclass(frozen=True)
class Embedding:
    """Sizes of the first convolutions: features to channels.

    `inputs` and `channels` are numbers, or lists of equal length for several input streams that are projected apart
    and joined. `rms` chooses the kind of norm. `position_length` is the length of the table of absolute positions,
    None where there is none.
    """

    inputs: int | Sequence[int]
    channels: int | Sequence[int]
    layers: int
    kernel: int
    with_norm: bool
    rms: bool = False
    position_length: int | None = None

    @property
    def width(self) -> int:
        """Channels of the pyramid."""
        return self.channels if isinstance(self.channels, int) else sum(self.channels)


class PyramidBackbone(nn.Module):
    """Embedding convolutions, stem blocks at full length, branch blocks that each shorten the sequence by `stride`.

    `rotary_width` is the number of channels of a head that rotary embeddings turn, None where there are none.
    """

    pos_embd: Tensor | None

    def __init__(
        self,
        embedding: Embedding,
        stem: Sequence[nn.Module],
        branch: Sequence[nn.Module],
        stride: int,
        rotary_width: int | None = None,
    ):
        super().__init__()
        self.rotary_width = rotary_width
        inputs, width = embedding.inputs, embedding.width
        self.streams = None if isinstance(inputs, int) else list(inputs)
        self.proj = None
        first = inputs if isinstance(inputs, int) else sum(inputs)
        if not isinstance(inputs, int) and not isinstance(embedding.channels, int):
            self.proj = nn.ModuleList(Conv(i, o, 1) for i, o in zip(inputs, embedding.channels, strict=True))
            first = width
        sizes = ([first] + [width] * (embedding.layers - 1))[: embedding.layers]
        with_norm = embedding.with_norm
        self.embd = nn.ModuleList(Conv(size, width, embedding.kernel, bias=not with_norm) for size in sizes)
        self.embd_norm = nn.ModuleList(optional_norm(width, with_norm, rms=embedding.rms) for _ in sizes)
        self.stem, self.branch, self.stride = nn.ModuleList(stem), nn.ModuleList(branch), stride
        length = embedding.position_length
        self.register_buffer("pos_embd", None if length is None else sinusoid_table(length, width), persistent=False)

    def forward(self, x: Tensor, canvas: Canvas, canvas_lengths: Tensor) -> tuple[list[Tensor], list[Canvas]]:
        """`x` (B, T, inputs) -> per level, finest first: (B, T_l, channels) and its canvas."""
        x = self._embed(x, canvas)
        if self.pos_embd is not None:
            x = x + canvas.keep_valid(place_positions(self.pos_embd, canvas_lengths, x.shape[1]).to(x.dtype))
        if self.rotary_width is not None:
            canvas = replace(canvas, rotation=rotation_table(x.shape[1], self.rotary_width, x))
        for block in self.stem:
            x, canvas = block(x, canvas)
        levels, canvases = [x], [canvas]
        for block in self.branch:
            x, canvas = block(x, canvas)
            levels.append(x)
            canvases.append(canvas)
        return levels, canvases

    def _embed(self, x: Tensor, canvas: Canvas) -> Tensor:
        if self.proj is not None and self.streams is not None:
            streams = x.split(self.streams, dim=-1)
            x = torch.cat([canvas.keep_valid(proj(s)) for proj, s in zip(self.proj, streams, strict=True)], dim=-1)
        return in_overlapping_pieces(
            lambda part, cut: convolve_norm_relu(part, self.embd, self.embd_norm, cut),
            x,
            canvas,
            reach=convolutions_reach(self.embd),
        )


def conv_backbone(embedding: Embedding, arch: tuple[int, int, int], scale_factor: int) -> PyramidBackbone:
    """ActionFormer's convolutional baseline."""
    stem = [ConvBlock(embedding.width, stride=1) for _ in range(arch[1])]
    branch = [ConvBlock(embedding.width, stride=scale_factor) for _ in range(arch[2])]
    return PyramidBackbone(embedding, stem, branch, scale_factor)


def transformer_backbone(
    embedding: Embedding, arch: tuple[int, int, int], scale_factor: int, style: BlockStyle, windows: Sequence[int]
) -> PyramidBackbone:
    """ActionFormer's backbone of convolutions and transformer blocks (v1), with the switches of v2 in `style`.

    `windows` has one entry per pyramid level.
    """
    width = embedding.width
    stem = [TransformerBlock(width, style, stride=1, window=windows[0]) for _ in range(arch[1])]
    branch = [TransformerBlock(width, style, stride=scale_factor, window=window) for window in windows[1:]]
    return PyramidBackbone(embedding, stem, branch, scale_factor, width // style.heads if style.rotary else None)
