"""SnapFormer: point events. A class heatmap at the finest level and where between two positions each event lies.

Targets, loss and peaks are those of Objects as Points (Zhou et al., 2019), along time; all levels of the pyramid are
added up at the finest (as in Panoptic Feature Pyramid Networks, Kirillov et al., 2019, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.layers.canvas import CanvasRule
from eventide.layers.joined import join_levels
from eventide.models.backbones import PyramidBackbone
from eventide.models.criterion import COUNT, PER_CLASS, SummedCriterion
from eventide.models.heads import ClassHead
from eventide.models.parts import (
    build_backbone,
    build_canvas_rule,
    build_class_head,
    build_neck,
    head_shape,
    level_strides,
)
from eventide.models.registry import Architecture, register
from eventide.ops.decode import class_scores
from eventide.ops.heatmap import around, heatmap_focal_loss, heatmap_targets, peaks
from eventide.types import Candidates, PyramidOutput


class Detector(nn.Module):
    """Backbone, neck, and two heads over the sum of all levels."""

    def __init__(
        self,
        backbone: PyramidBackbone,
        neck: nn.Module,
        cls_head: ClassHead,
        offset_head: ClassHead,
        *,
        start_level: int,
        head_reach: int,
        rule: CanvasRule,
    ):
        super().__init__()
        self.backbone, self.neck, self.cls_head, self.offset_head = backbone, neck, cls_head, offset_head
        self.start_level, self.rule, self.head_reach = start_level, rule, head_reach

    def forward(self, features: Tensor, mask: Tensor | None = None) -> PyramidOutput:
        """`features` (B, C, T) with `mask` (B, T) bool, True where a vector is real (None: everywhere) -> logits and
        offsets (B, T', classes) of one level.
        """
        length = features.shape[-1]
        x, canvas, canvas_lengths = self.rule.place(features, mask)
        levels, canvases = self.backbone(x, canvas, canvas_lengths)
        del x
        canvases = canvases[self.start_level :]
        levels = self.neck(levels[self.start_level :], canvases)
        finest, canvas = add_up(levels, self.backbone.stride), canvases[0]
        del levels
        joined = join_levels([canvas.keep_inside(finest)], [canvas], self.head_reach)
        if mask is None:
            mask = features.new_ones((features.shape[0], length), dtype=torch.bool)
        mask = mask[:, :: self.backbone.stride**self.start_level]
        kept = mask.shape[1]
        logits, offsets = self.cls_head(joined)[0], self.offset_head(joined)[0]
        return PyramidOutput([logits[:, :kept]], [offsets[:, :kept]], [mask])


def add_up(levels: list[Tensor], stride: int) -> Tensor:
    """All levels L x (B, T_l, C), each coarser one repeated to the length of the finest, in one (B, T_0, C)."""
    total = levels[-1]
    for finer in reversed(levels[:-1]):
        total = finer + total.repeat_interleave(stride, dim=1)[:, : finer.shape[1]]
    return total


class Criterion(SummedCriterion):
    """Heatmap and offset losses."""

    parts = ("cls_loss", "offset_loss")

    def __init__(
        self, *, num_classes: int, stride: int, offset_weight: float, initial_normalizer: float, momentum: float
    ):
        super().__init__(initial_normalizer, momentum)
        self.num_classes, self.stride, self.offset_weight = num_classes, stride, offset_weight

    def sums(
        self,
        output: PyramidOutput,
        events: Tensor,
        label_ids: Tensor,
        teacher: PyramidOutput | None = None,
        teacher_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """`cls_loss`, `offset_loss`, `num_positives`, `learnt_per_class`. `events` (B, G, 2) are the time less and
        plus the width of its target; a heatmap learns nothing from a teacher, whose share is 0.
        """
        if teacher is not None:
            raise ValueError("a SnapFormer has no boundaries that a teacher could show")
        (logits,), (offsets,), (mask,) = output.logits, output.offsets, output.masks
        last = mask.sum(1) - 1
        targets = heatmap_targets(logits.shape[1], self.stride, events, label_ids, self.num_classes, last)
        valid = mask.unsqueeze(-1)
        learnt = (targets.heat >= 1) & valid
        error = (offsets.float() - targets.offset).abs() * (targets.learns_offset & valid)
        return {
            "cls_loss": (heatmap_focal_loss(logits, targets.heat) * valid).sum(),
            "offset_loss": error.sum(),
            COUNT: learnt.sum(),
            PER_CLASS: learnt.sum((0, 1)),
        }

    def weights(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """`offset_weight` for the offsets."""
        return {"cls_loss": 1.0, "offset_loss": self.offset_weight}


class Decoder:
    """Peaks of the heatmap to candidate events on the feature grid."""

    def __init__(self, *, stride: int, min_score: float, topk: int, temperature: float):
        self.stride, self.min_score, self.topk, self.temperature = stride, min_score, topk, temperature

    @torch.no_grad()
    def __call__(self, output: PyramidOutput) -> list[Candidates]:
        """The `topk` best peaks of every sequence of the batch. Their score, above `min_score`, is the probability
        that an event lies near.
        """
        reported = output.masks if output.reported is None else output.reported
        rows = zip(output.logits[0], output.offsets[0], output.masks[0], reported[0], strict=True)
        return [self._decode(*row) for row in rows]

    def _decode(self, logits: Tensor, offsets: Tensor, mask: Tensor, reported: Tensor) -> Candidates:
        """`logits` and `offsets` (T, C), `mask` and `reported` (T,) bool. Peaks are looked for among all real
        positions: where a window ends is none.
        """
        heat = class_scores(logits) * mask.unsqueeze(-1)
        scores = around(logits, mask)
        if self.temperature != 1:
            scores = class_scores(scores.logit(), self.temperature)
        found = peaks(heat) & (scores > self.min_score) & reported.unsqueeze(-1)
        position, label_ids = found.nonzero(as_tuple=True)
        scores = scores[position, label_ids]
        scores, order = torch.topk(scores, min(self.topk, scores.shape[0]), sorted=True)
        position, label_ids = position[order], label_ids[order]
        time = (position + offsets.float()[position, label_ids]) * self.stride
        found = torch.stack((time, time), dim=-1)
        return Candidates(found.cpu().numpy(), scores.cpu().numpy(), label_ids.cpu().numpy())


@register("SnapFormer")
def build(config: Config) -> Architecture:
    """Detector, criterion and decoder of a resolved configuration."""
    model, train, test = config.model, config.train_cfg, config.test_cfg
    classes, (stride, *coarser) = config.dataset.num_classes, level_strides(config)
    detector = Detector(
        build_backbone(config),
        build_neck(config, 1 + len(coarser)),
        build_class_head(config),
        ClassHead(head_shape(config), classes, prior_probability=0.0),
        start_level=model.fpn_start_level,
        head_reach=model.head_kernel_size // 2,
        rule=build_canvas_rule(config),
    )
    criterion = Criterion(
        num_classes=classes,
        stride=stride,
        offset_weight=model.heatmap.offset_weight,
        initial_normalizer=train.init_loss_norm,
        momentum=train.loss_norm_momentum,
    )
    decoder = Decoder(
        stride=stride, min_score=test.pre_nms_thresh, topk=test.pre_nms_topk, temperature=test.score_temperature or 1.0
    )
    return Architecture(detector, criterion, decoder, [stride])
