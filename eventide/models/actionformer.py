"""LocPointTransformer: ActionFormer (Zhang, Wu and Li, ECCV 2022), one class and two offsets per pyramid point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.layers.canvas import CanvasRule
from eventide.layers.joined import JoinedLevels, join_levels
from eventide.models.backbones import PyramidBackbone
from eventide.models.criterion import COUNT, PER_CLASS, SummedCriterion
from eventide.models.heads import ClassHead, OffsetHead
from eventide.models.necks import IdentityNeck, PyramidNeck
from eventide.models.parts import (
    build_backbone,
    build_canvas_rule,
    build_class_head,
    build_neck,
    head_shape,
    level_strides,
)
from eventide.models.registry import Architecture, register
from eventide.ops.assign import assign_targets
from eventide.ops.decode import LevelCandidates, decode_level
from eventide.ops.losses import BOUNDARY_LOSSES, CLASS_LOSSES, segment_iou
from eventide.ops.points import pyramid_points
from eventide.types import Candidates, PyramidOutput


class Detector(nn.Module):
    """Backbone, neck, heads."""

    def __init__(
        self,
        *,
        backbone: PyramidBackbone,
        neck: IdentityNeck | PyramidNeck,
        cls_head: ClassHead,
        reg_head: nn.Module,
        start_level: int,
        head_reach: int,
        rule: CanvasRule,
    ):
        super().__init__()
        self.backbone, self.neck, self.cls_head, self.reg_head = backbone, neck, cls_head, reg_head
        self.start_level, self.rule, self.head_reach = start_level, rule, head_reach

    def forward(self, features: Tensor, mask: Tensor | None = None) -> PyramidOutput:
        """`features` (B, C, T) with `mask` (B, T) bool, True where a vector is real (None: everywhere) -> raw
        outputs per level.
        """
        length = features.shape[-1]
        x, canvas, canvas_lengths = self.rule.place(features, mask)
        levels, canvases = self.backbone(x, canvas, canvas_lengths)
        del x  # every name that goes early is a tensor less in memory where no gradient keeps it
        canvases = canvases[self.start_level :]
        levels = self.neck(levels[self.start_level :], canvases)
        joined = join_levels(levels, canvases, self.head_reach)
        del levels
        output = self.read_heads(joined)
        if mask is None:
            mask = features.new_ones((features.shape[0], length), dtype=torch.bool)
        return self._cut(output, mask)

    def read_heads(self, joined: JoinedLevels) -> PyramidOutput:
        """Raw outputs of all levels, without masks."""
        return PyramidOutput(self.cls_head(joined), self.reg_head(joined), [])

    def _cut(self, output: PyramidOutput, mask: Tensor) -> PyramidOutput:
        """Leaves out what was computed beyond the input only to get its last positions right; adds the masks."""
        levels = range(self.start_level, self.start_level + len(output.logits))
        masks = [mask[:, :: self.backbone.stride**level] for level in levels]

        def cut(parts: list[Tensor]) -> list[Tensor]:
            return [x[:, : level.shape[1]] for x, level in zip(parts, masks, strict=True)]

        return replace(
            output,
            logits=cut(output.logits),
            offsets=cut(output.offsets),
            masks=masks,
            distributions=None if output.distributions is None else cut(output.distributions),
        )


class Criterion(SummedCriterion):
    """Targets and losses: one class and two distances per pyramid point."""

    parts = ("cls_loss", "reg_loss")

    def __init__(
        self,
        *,
        num_classes: int,
        strides: Sequence[int],
        regression_range: Sequence[tuple[float, float]],
        center_radius: float | None,
        label_smoothing: float,
        loss_weight: float,
        initial_normalizer: float,
        normalizer_momentum: float,
        class_loss: str = "focal",
        boundary_loss: str = "diou",
    ):
        super().__init__(initial_normalizer, normalizer_momentum)
        self.num_classes, self.strides, self.regression_range = num_classes, list(strides), list(regression_range)
        self.center_radius, self.label_smoothing, self.loss_weight = center_radius, label_smoothing, loss_weight
        self.class_loss_kind, self.overlap_loss = CLASS_LOSSES[class_loss], BOUNDARY_LOSSES[boundary_loss]

    @property
    def balances(self) -> bool:
        return self.loss_weight <= 0

    def sums(
        self,
        output: PyramidOutput,
        events: Tensor,
        label_ids: Tensor,
        teacher: PyramidOutput | None = None,
        teacher_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """`cls_loss`, `reg_loss`, `num_positives`, `learnt_per_class`; arguments as those of every criterion."""
        lengths = [level.shape[1] for level in output.logits]
        points = pyramid_points(lengths, self.strides, self.regression_range, events.device)
        class_targets, distances = assign_targets(points, events, label_ids, self.num_classes, self.center_radius)
        wanted = distances
        if teacher is not None:
            wanted = torch.lerp(distances, torch.cat(teacher.offsets, dim=1), teacher_share)
        valid = torch.cat(output.masks, dim=1)
        positive = (class_targets.sum(-1) > 0) & valid
        per_class = (class_targets * positive.unsqueeze(-1)).sum((0, 1))
        class_targets = self.soften(class_targets, output, distances, positive)
        return {
            "cls_loss": self.class_loss(output, class_targets, valid),
            "reg_loss": self.boundary_loss(output, wanted, positive),
            COUNT: positive.sum(),
            PER_CLASS: per_class,
        }

    def weights(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """`loss_weight` for the boundaries; where it is 0, as much as makes both parts count the same, as published."""
        if self.loss_weight > 0:
            return {"cls_loss": 1.0, "reg_loss": self.loss_weight}
        return {"cls_loss": 1.0, "reg_loss": parts["cls_loss"].detach() / parts["reg_loss"].detach().clamp(min=0.01)}

    def soften(self, targets: Tensor, output: PyramidOutput, distances: Tensor, positive: Tensor) -> Tensor:
        """Class targets (B, F, classes) in {0, 1} to those of the loss: smoothed, or in place of 1 how well the
        predicted segment of the point fits, its IoU with the true one.
        """
        if self.class_loss_kind.of_quality:
            with torch.no_grad():
                return targets * segment_iou(*self._where_positive(output, distances, positive)).unsqueeze(-1)
        if self.label_smoothing > 0:
            return targets * (1 - self.label_smoothing) + self.label_smoothing / (self.num_classes + 1)
        return targets

    def class_loss(self, output: PyramidOutput, targets: Tensor, valid: Tensor) -> Tensor:
        """Sum over the valid points (B, F) bool; `targets` (B, F, classes) between 0 and 1."""
        loss = self.class_loss_kind.function(torch.cat(output.logits, dim=1), targets)
        return (loss * valid.unsqueeze(-1)).sum()

    def boundary_loss(self, output: PyramidOutput, distances: Tensor, positive: Tensor) -> Tensor:
        """Sum over the positive points (B, F) bool; `distances` (B, F, 2) in strides, anything at other points."""
        return (self.overlap_loss(*self._where_positive(output, distances, positive)) * positive).sum()

    @staticmethod
    def _where_positive(output: PyramidOutput, distances: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true distances (B, F, 2). Where no event is learned they may be anything; ones keep what is
        made of them finite before it is masked out.
        """
        kept = positive.unsqueeze(-1)
        return torch.where(kept, torch.cat(output.offsets, dim=1), 1.0), torch.where(kept, distances, 1.0)


class Decoder:
    """Raw outputs to candidate segments on the feature grid."""

    def __init__(
        self, *, strides: Sequence[int], min_score: float, topk: int, min_length: float, temperature: float = 1.0
    ):
        self.strides, self.min_score, self.topk, self.min_length = list(strides), min_score, topk, min_length
        self.temperature = temperature

    @torch.no_grad()
    def __call__(self, output: PyramidOutput) -> list[Candidates]:
        """Candidates of every sequence of the batch, before non-maximum suppression."""
        return [self._decode(output, index) for index in range(output.logits[0].shape[0])]

    def _decode(self, output: PyramidOutput, index: int) -> Candidates:
        levels = [self.level_candidates(output, index, level) for level in range(len(self.strides))]
        return Candidates(*(torch.cat(parts).cpu().numpy() for parts in zip(*levels, strict=True)))

    def level_candidates(self, output: PyramidOutput, index: int, level: int) -> tuple[Tensor, ...]:
        """The first fields of `Candidates`, of one level of sequence `index`."""
        return self.decode_level(output, index, level)[:3]

    def decode_level(self, output: PyramidOutput, index: int, level: int) -> LevelCandidates:
        """Candidates of one level of sequence `index` of the batch."""
        mask = output.masks[level][index]
        if output.reported is not None:
            mask = mask & output.reported[level][index]
        return decode_level(
            output.logits[level][index],
            output.offsets[level][index],
            mask,
            self.strides[level],
            min_score=self.min_score,
            topk=self.topk,
            min_length=self.min_length,
            temperature=self.temperature,
        )


@register("LocPointTransformer")
def build(config: Config) -> Architecture:
    """Detector, criterion and decoder of a resolved configuration."""
    strides = level_strides(config)
    detector = Detector(**detector_parts(config), reg_head=OffsetHead(head_shape(config), len(strides)))
    criterion, decoder = Criterion(**criterion_settings(config)), Decoder(**decoder_settings(config))
    return Architecture(detector, criterion, decoder, strides)


def detector_parts(config: Config) -> dict[str, Any]:
    """What a detector is made of, all but its head of boundaries."""
    return {
        "cls_head": build_class_head(config),  # first, as ever, so that a seed keeps its first weights
        "backbone": build_backbone(config),
        "neck": build_neck(config, len(level_strides(config))),
        "start_level": config.model.fpn_start_level,
        "head_reach": config.model.head_kernel_size // 2,
        "rule": build_canvas_rule(config),
    }


def criterion_settings(config: Config) -> dict[str, Any]:
    """Arguments of a criterion."""
    train = config.train_cfg
    return {
        "num_classes": config.dataset.num_classes,
        "strides": level_strides(config),
        "regression_range": config.model.regression_range or (),
        "center_radius": train.center_sample_radius if train.center_sample == "radius" else None,
        "label_smoothing": train.label_smoothing,
        "loss_weight": train.loss_weight,
        "initial_normalizer": train.init_loss_norm,
        "normalizer_momentum": train.loss_norm_momentum,
        "class_loss": train.cls_loss,
        "boundary_loss": train.reg_loss,
    }


def decoder_settings(config: Config) -> dict[str, Any]:
    """Arguments of a decoder."""
    test = config.test_cfg
    return {
        "strides": level_strides(config),
        "min_score": test.pre_nms_thresh,
        "topk": test.pre_nms_topk,
        "min_length": test.duration_thresh,
        "temperature": test.score_temperature or 1.0,
    }
