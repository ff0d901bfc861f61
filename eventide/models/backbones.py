"""Backbones: features to a pyramid of sequences, each level half as long as the one below (ActionFormer, section
3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eventide.layers.blocks import ConvBlock, TransformerBlock
from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv
from eventide.layers.norm import make_norm, norm_and_relu
from eventide.layers.position import place_positions, sinusoid_table


class PyramidBackbone(nn.Module):
    """Embedding convolutions, stem blocks at full length, branch blocks that each shorten the sequence.

    `inputs` and `channels` are numbers, or lists of equal length for several input streams that are projected apart
    and joined.
    """

    pos_embd: Tensor | None

    def __init__(
        self,
        inputs: int | Sequence[int],
        channels: int | Sequence[int],
        *,
        embedding_layers: int,
        kernel: int,
        with_norm: bool,
        stem: Sequence[nn.Module],
        branch: Sequence[nn.Module],
        stride: int,
        position_length: int | None = None,
    ):
        super().__init__()
        self.streams = None if isinstance(inputs, int) else list(inputs)
        if isinstance(inputs, int) or isinstance(channels, int):
            width, first = _single(channels), _single(inputs)
            self.proj = None
        else:
            self.proj = nn.ModuleList(Conv(i, o, 1) for i, o in zip(inputs, channels, strict=True))
            width = first = sum(channels)
        sizes = [first] + [width] * (embedding_layers - 1)
        self.embd = nn.ModuleList(Conv(size, width, kernel, bias=not with_norm) for size in sizes[:embedding_layers])
        self.embd_norm = nn.ModuleList(make_norm(width, with_norm) for _ in range(embedding_layers))
        self.stem, self.branch, self.stride = nn.ModuleList(stem), nn.ModuleList(branch), stride
        table = None if position_length is None else sinusoid_table(position_length, width)
        self.register_buffer("pos_embd", table, persistent=False)

    def forward(self, x: Tensor, canvas: Canvas, canvas_lengths: Tensor) -> tuple[list[Tensor], list[Canvas]]:
        """`x` (B, T, inputs) -> per level, finest first: (B, T_l, channels) and its canvas."""
        x = self._embed(x, canvas)
        if self.pos_embd is not None:
            x = x + canvas.keep_valid(place_positions(self.pos_embd, canvas_lengths, x.shape[1]).to(x.dtype))
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
        for conv, norm in zip(self.embd, self.embd_norm, strict=True):
            x = conv(x)
            if canvas.has_margin:
                x = canvas.keep_valid(x)
            x = norm_and_relu(norm, x, canvas.inside)
        return x


def _single(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else sum(size)


def conv_backbone(
    *, channels: int | Sequence[int], arch: tuple[int, int, int], scale_factor: int, **embedding: object
) -> PyramidBackbone:
    """ActionFormer's convolutional baseline."""
    width = _single(channels)
    stem = [ConvBlock(width, stride=1) for _ in range(arch[1])]
    branch = [ConvBlock(width, stride=scale_factor) for _ in range(arch[2])]
    return PyramidBackbone(
        channels=channels, embedding_layers=arch[0], stem=stem, branch=branch, stride=scale_factor, **embedding
    )  # type: ignore[arg-type]


def transformer_backbone(
    *,
    channels: int | Sequence[int],
    arch: tuple[int, int, int],
    scale_factor: int,
    heads: int,
    windows: Sequence[int],
    dropout: float,
    droppath: float,
    use_rel_pe: bool,
    **embedding: object,
) -> PyramidBackbone:
    """ActionFormer's backbone of convolutions and transformer blocks; `windows` has one entry per pyramid level."""

    def block(stride: int, window: int) -> TransformerBlock:
        return TransformerBlock(
            _single(channels),
            heads,
            stride=stride,
            window=window,
            dropout=dropout,
            droppath=droppath,
            use_rel_pe=use_rel_pe,
        )

    stem = [block(1, windows[0]) for _ in range(arch[1])]
    branch = [block(scale_factor, window) for window in windows[1:]]
    return PyramidBackbone(
        channels=channels, embedding_layers=arch[0], stem=stem, branch=branch, stride=scale_factor, **embedding
    )  # type: ignore[arg-type]
