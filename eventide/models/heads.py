"""Heads: one small convolutional network, shared by all pyramid levels (ActionFormer, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv, convolutions_reach
from eventide.layers.joined import JoinedLevels
from eventide.layers.norm import convolve_norm_relu, optional_norm
from eventide.layers.pieces import in_overlapping_pieces
from eventide.layers.regularisation import Scale


@dataclass(frozen=True)
class HeadShape:
    """Sizes that the heads share; `layers` counts the last convolution too."""

    inputs: int
    channels: int
    kernel: int
    layers: int
    with_norm: bool


class ConvHead(nn.Module):
    """All convolutions but the last, each with norm and ReLU; subclasses add the last."""

    def __init__(self, shape: HeadShape):
        super().__init__()
        sizes = ([shape.inputs] + [shape.channels] * shape.layers)[: shape.layers]
        self.head = nn.ModuleList(
            Conv(size, shape.channels, shape.kernel, bias=not shape.with_norm) for size in sizes[:-1]
        )
        self.norm = nn.ModuleList(optional_norm(shape.channels, shape.with_norm) for _ in sizes[:-1])
        self.last_inputs = sizes[-1]

    def convolve(self, levels: JoinedLevels, last: nn.Module) -> list[Tensor]:
        """All convolutions, `last` after the common ones: joined levels (B, N, inputs) -> L x (B, T_l, outputs), zero
        where not valid.
        """

        def step(x: Tensor, canvas: Canvas) -> Tensor:
            return canvas.keep_valid(last(convolve_norm_relu(x, self.head, self.norm, canvas)))

        reach = convolutions_reach([*self.head, last])
        return levels.split(in_overlapping_pieces(step, levels.x, levels.canvas, reach=reach))


class ClassHead(ConvHead):
    """Class logits per pyramid point. `empty_classes` start so low that they are never predicted (classes without
    examples).
    """

    def __init__(self, shape: HeadShape, classes: int, *, prior_probability: float, empty_classes: Sequence[int] = ()):
        super().__init__(shape)
        self.cls_head = Conv(self.last_inputs, classes, shape.kernel)
        bias = self.cls_head.conv.bias
        with torch.no_grad():
            if prior_probability > 0 and bias is not None:
                bias.fill_(_logit(prior_probability))
            for index in empty_classes:
                if bias is not None:
                    bias[index] = _logit(1e-6)

    def forward(self, levels: JoinedLevels) -> list[Tensor]:
        """Joined levels (B, N, inputs) -> L x (B, T_l, classes), zero where not valid."""
        return self.convolve(levels, self.cls_head)


class OffsetHead(ConvHead):
    """Distances to the start and the end of the event, in strides of the level, per pyramid point."""

    def __init__(self, shape: HeadShape, levels: int):
        super().__init__(shape)
        self.scale = nn.ModuleList(Scale() for _ in range(levels))
        self.offset_head = Conv(self.last_inputs, 2, shape.kernel)

    def forward(self, levels: JoinedLevels) -> list[Tensor]:
        """Joined levels (B, N, inputs) -> L x (B, T_l, 2), not negative, zero where not valid."""
        offsets = self.convolve(levels, self.offset_head)
        return [F.relu(scale(x)) for x, scale in zip(offsets, self.scale, strict=True)]


def _logit(probability: float) -> float:
    return -math.log((1 - probability) / probability)
