"""TBTFormer: segments whose boundaries are distributions, so that the model says how sure it is of each.

ActionFormer's pyramid with the boundary distributions of Generalized Focal Loss (Li et al., NeurIPS 2020): the bins of
a level span twice the distance to the farthest boundary that the level answers for, those of the last level the longest
event. Twice, since a label that is off by a little belongs to the next level: with bins that end at the bound, no point
of this one could say so. Targets have a width, and candidates vote on boundaries by how sure they are (`ops.voting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eventide.config import OPEN_RANGE, Config
from eventide.layers.conv import Conv
from eventide.layers.joined import JoinedLevels
from eventide.models import actionformer
from eventide.models.heads import ConvHead, HeadShape
from eventide.models.parts import head_shape, level_strides
from eventide.models.registry import Architecture, register
from eventide.ops.distribution import expectation, quantiles, standard_deviation, wide_focal_loss
from eventide.types import PyramidOutput

REACH = 2.0  # how far the bins of a level reach, over its upper regression bound


class DistributionHead(ConvHead):
    """A distribution over `bins` distances to the start and to the end of the event, per pyramid point."""

    def __init__(self, shape: HeadShape, bins: int):
        super().__init__(shape)
        self.bins = bins
        self.distribution_head = Conv(self.last_inputs, 2 * bins, shape.kernel)

    def forward(self, levels: JoinedLevels) -> list[Tensor]:
        """Joined levels (B, N, inputs) -> logits L x (B, T_l, 2, bins), zero where not valid."""
        return [x.unflatten(-1, (2, self.bins)) for x in self.convolve(levels, self.distribution_head)]


class Detector(actionformer.Detector):
    """Backbone, neck, class head and distribution head.

    `spans` (L,): the farthest distance that the bins of a level reach, in strides of the level; in the state_dict.
    """

    spans: Tensor

    def __init__(self, *, strides: Sequence[int], regression_range: Sequence[tuple[float, float]], **parts: Any):
        super().__init__(**parts)
        self.last_stride = strides[-1]
        low, high = regression_range[-1]
        # Until the longest event is known, an open level reaches twice as far as the level before it.
        last = high if high < OPEN_RANGE else 2 * max(low, self.last_stride)
        reaches = [*(REACH * farthest for _, farthest in regression_range[:-1]), last]
        self.register_buffer("spans", torch.tensor(reaches) / torch.tensor(strides))

    def set_longest_event(self, longest: float) -> None:
        """Let the last level reach over an event of `longest` grid steps."""
        self.spans[-1] = max(longest / self.last_stride, 1.0)

    def read_heads(self, joined: JoinedLevels) -> PyramidOutput:
        """Logits, expected distances and their distributions of every level, no masks yet."""
        distributions = self.reg_head(joined)
        offsets = [expectation(x, span) for x, span in zip(distributions, self.spans, strict=True)]
        return PyramidOutput(self.cls_head(joined), offsets, [], distributions=distributions, spans=self.spans)


class Criterion(actionformer.Criterion):
    """ActionFormer's targets and losses, and the distribution focal loss beside the boundary loss.

    `target_width`: standard deviation of the targets in grid steps.
    """

    def __init__(self, *, dfl_weight: float, target_width: float, **others: Any):
        super().__init__(**others)
        self.dfl_weight, self.target_width = dfl_weight, target_width

    def boundary_loss(self, output: PyramidOutput, distances: Tensor, positive: Tensor) -> Tensor:
        """Sum over positive points of overlap loss plus `dfl_weight` times the mean loss of the two distributions."""
        distributions, spans = with_distributions(output)
        overlap = super().boundary_loss(output, distances, positive)
        lengths = [x.shape[1] for x in distributions]
        span = torch.cat([span.expand(length) for length, span in zip(lengths, spans, strict=True)])
        stride = torch.cat([span.new_full((n,), stride) for n, stride in zip(lengths, self.strides, strict=True)])
        wanted = torch.where(positive.unsqueeze(-1), distances, 1.0)
        width = (self.target_width / stride)[:, None]
        loss = wide_focal_loss(torch.cat(distributions, dim=1), wanted, span[:, None], width)
        return overlap + self.dfl_weight * (loss.mean(-1) * positive).sum()


class Decoder(actionformer.Decoder):
    """Raw outputs to candidate segments with the spread of each boundary."""

    def __init__(self, *, quantile_levels: Sequence[float], **others: Any):
        super().__init__(**others)
        self.quantile_levels = list(quantile_levels)

    def level_candidates(self, output: PyramidOutput, index: int, level: int) -> tuple[Tensor, ...]:
        """As many fields of `Candidates`: the last, the quantiles, only where some are asked for."""
        distributions, spans = with_distributions(output)
        segments, scores, label_ids, point = self.decode_level(output, index, level)
        stride, logits, span = self.strides[level], distributions[level][index, point], spans[level]
        std = standard_deviation(logits, span) * stride
        if not self.quantile_levels:
            return segments, scores, label_ids, std
        position = (point * stride).to(std.dtype)[:, None]
        # The earlier a start, the longer its distance: its quantiles are those of the distance from the other end.
        before = quantiles(logits[:, 0], span, [1 - share for share in self.quantile_levels]) * stride
        after = quantiles(logits[:, 1], span, self.quantile_levels) * stride
        return segments, scores, label_ids, std, torch.stack((position - before, position + after), dim=1)


def with_distributions(output: PyramidOutput) -> tuple[list[Tensor], Tensor]:
    """Distributions and spans of an output, which has them."""
    if output.distributions is None or output.spans is None:
        raise ValueError("this output has no boundary distributions: it is not of a TBTFormer")
    return output.distributions, output.spans


@register("TBTFormer")
def build(config: Config) -> Architecture:
    """Detector, criterion and decoder of a resolved configuration."""
    model, strides = config.model, level_strides(config)
    detector = Detector(
        **actionformer.detector_parts(config),
        reg_head=DistributionHead(head_shape(config), bins=(model.reg_max or 0) + 1),
        strides=strides,
        regression_range=model.regression_range or (),
    )
    criterion = Criterion(
        dfl_weight=model.dfl_weight or 0.0,
        target_width=model.target_width or 0.0,
        **actionformer.criterion_settings(config),
    )
    levels = config.test_cfg.quantiles or ()
    decoder = Decoder(quantile_levels=levels, **actionformer.decoder_settings(config))
    return Architecture(detector, criterion, decoder, strides, detector.set_longest_event)
