"""LocPointTransformer: ActionFormer (Zhang, Wu and Li, ECCV 2022), one class and two offsets per pyramid point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.layers.canvas import CanvasRule
from eventide.layers.joined import join_levels
from eventide.models.backbones import PyramidBackbone
from eventide.models.heads import ClassHead, HeadShape, OffsetHead
from eventide.models.necks import IdentityNeck, PyramidNeck
from eventide.models.parts import backbone_width, build_backbone, build_canvas_rule, build_neck
from eventide.models.registry import Architecture, register
from eventide.ops.assign import assign_targets
from eventide.ops.decode import decode_level
from eventide.ops.losses import diou_loss, sigmoid_focal_loss
from eventide.ops.points import pyramid_points
from eventide.types import Candidates, PyramidOutput


class Detector(nn.Module):
    """Backbone, neck, heads."""

    def __init__(
        self,
        backbone: PyramidBackbone,
        neck: IdentityNeck | PyramidNeck,
        cls_head: ClassHead,
        reg_head: OffsetHead,
        *,
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
        logits, offsets = self.cls_head(joined), self.reg_head(joined)
        return self._cut(logits, offsets, mask, features, length)

    def _cut(
        self, logits: list[Tensor], offsets: list[Tensor], mask: Tensor | None, features: Tensor, length: int
    ) -> PyramidOutput:
        """Leaves out what was computed beyond the input only to get its last positions right."""
        strides = [self.backbone.stride**level for level in range(self.start_level, self.start_level + len(logits))]
        if mask is None:
            mask = features.new_ones((features.shape[0], length), dtype=torch.bool)
        masks = [mask[:, ::stride] for stride in strides]
        lengths = [level.shape[1] for level in masks]
        return PyramidOutput(
            [x[:, :n] for x, n in zip(logits, lengths, strict=True)],
            [x[:, :n] for x, n in zip(offsets, lengths, strict=True)],
            masks,
        )


class Criterion(nn.Module):
    """Targets and losses. The sum over points is divided once by a running number of positives, kept in the buffer
    `loss_normalizer`.
    """

    loss_normalizer: Tensor

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
    ):
        super().__init__()
        self.num_classes, self.strides, self.regression_range = num_classes, list(strides), list(regression_range)
        self.center_radius, self.label_smoothing, self.loss_weight = center_radius, label_smoothing, loss_weight
        self.momentum = normalizer_momentum
        self.register_buffer("loss_normalizer", torch.tensor(float(initial_normalizer)))

    def forward(self, output: PyramidOutput, segments: Tensor, label_ids: Tensor) -> dict[str, Tensor]:
        """`segments` (B, G, 2) on the feature grid, `label_ids` (B, G), -1 where a row is no event.

        Returns scalars: `cls_loss`, `reg_loss`, `final_loss` (to differentiate), `num_positives`. In training mode
        the normaliser moves first, as published.
        """
        lengths = [level.shape[1] for level in output.logits]
        points = pyramid_points(lengths, self.strides, self.regression_range, segments.device)
        class_targets, distances = assign_targets(points, segments, label_ids, self.num_classes, self.center_radius)
        valid = torch.cat(output.masks, dim=1)
        positive = (class_targets.sum(-1) > 0) & valid
        count = positive.sum()
        if self.training:
            self._move_normalizer(count)
        cls_loss = self._class_loss(torch.cat(output.logits, dim=1), class_targets, valid) / self.loss_normalizer
        reg_loss = self._boundary_loss(torch.cat(output.offsets, dim=1), distances, positive) / self.loss_normalizer
        weight = self.loss_weight if self.loss_weight > 0 else cls_loss.detach() / reg_loss.detach().clamp(min=0.01)
        return {
            "cls_loss": cls_loss,
            "reg_loss": reg_loss,
            "final_loss": cls_loss + reg_loss * weight,
            "num_positives": count,
        }

    @torch.no_grad()
    def _move_normalizer(self, count: Tensor) -> None:
        current = count.clamp(min=1).to(self.loss_normalizer.dtype)
        self.loss_normalizer.mul_(self.momentum).add_(current, alpha=1 - self.momentum)

    def _class_loss(self, logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        if self.label_smoothing > 0:
            targets = targets * (1 - self.label_smoothing) + self.label_smoothing / (self.num_classes + 1)
        return (sigmoid_focal_loss(logits, targets) * valid.unsqueeze(-1)).sum()

    def _boundary_loss(self, offsets: Tensor, distances: Tensor, positive: Tensor) -> Tensor:
        # Where no event is learned the distances may be anything; zeros keep the loss finite before it is masked out.
        kept = positive.unsqueeze(-1)
        loss = diou_loss(torch.where(kept, offsets, 1.0), torch.where(kept, distances, 1.0))
        return (loss * positive).sum()


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
        levels = [
            decode_level(
                logits[index],
                offsets[index],
                mask[index],
                stride,
                min_score=self.min_score,
                topk=self.topk,
                min_length=self.min_length,
                temperature=self.temperature,
            )
            for logits, offsets, mask, stride in zip(
                output.logits, output.offsets, output.masks, self.strides, strict=True
            )
        ]
        segments, scores, label_ids = (torch.cat(parts).cpu().numpy() for parts in zip(*levels, strict=True))
        return Candidates(segments, scores, label_ids)


@register("LocPointTransformer")
def build(config: Config) -> Architecture:
    """Detector, criterion and decoder of a resolved configuration."""
    model, train, test = config.model, config.train_cfg, config.test_cfg
    levels = len(model.regression_range or ())
    strides = [model.backbone.scale_factor ** (model.fpn_start_level + level) for level in range(levels)]
    detector = _detector(config, levels)
    criterion = Criterion(
        num_classes=config.dataset.num_classes,
        strides=strides,
        regression_range=model.regression_range or (),
        center_radius=train.center_sample_radius if train.center_sample == "radius" else None,
        label_smoothing=train.label_smoothing,
        loss_weight=train.loss_weight,
        initial_normalizer=train.init_loss_norm,
        normalizer_momentum=train.loss_norm_momentum,
    )
    decoder = Decoder(
        strides=strides,
        min_score=test.pre_nms_thresh,
        topk=test.pre_nms_topk,
        min_length=test.duration_thresh,
        temperature=test.score_temperature or 1.0,
    )
    return Architecture(detector, criterion, decoder, strides)


def _detector(config: Config, levels: int) -> Detector:
    model, train = config.model, config.train_cfg
    fpn_dim, head_dim = model.fpn_dim or backbone_width(config), model.head_dim or backbone_width(config)
    shape = HeadShape(fpn_dim, head_dim, model.head_kernel_size, model.head_num_layers, model.head_with_ln)
    cls_head = ClassHead(
        shape,
        config.dataset.num_classes,
        prior_probability=train.cls_prior_prob,
        empty_classes=train.head_empty_cls,
    )
    return Detector(
        build_backbone(config),
        build_neck(config, levels),
        cls_head,
        OffsetHead(shape, levels),
        start_level=model.fpn_start_level,
        head_reach=model.head_kernel_size // 2,
        rule=build_canvas_rule(config),
    )
