"""Losses of single elements; callers sum and normalise.

Everything is computed in float32 at least. Segments around a common point are given by the distances from it to their
start and end, (..., 2); a distance is negative where the point lies outside, but no segment ends before its start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_LENGTH = 1e-8  # keeps quotients finite where segments have no length


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss per element (Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5), for targets between
    0 and 1.
    """
    logits, targets = _wide(logits), _wide(targets)
    probability = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    correct = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * cross_entropy * (1 - correct) ** gamma


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss per element (Li et al., Generalized Focal Loss, 2020, eq. 2), for targets between 0 and 1;
    least where the probability equals the target.
    """
    logits, targets = _wide(logits), _wide(targets)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (targets - torch.sigmoid(logits)).abs() ** beta * cross_entropy


def segment_iou(offsets: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union (...) of segments (..., 2), 0 for two of no length."""
    return _Pair.of(offsets, targets).overlap()


def diou_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """Distance-IoU loss (...) of segments (..., 2) (Zheng et al., 2020, eq. 7)."""
    pair = _Pair.of(offsets, targets)
    return 1.0 - pair.overlap() + torch.square(pair.center_distance / pair.hull.clamp(min=LEAST_LENGTH))


def giou_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """Generalised IoU loss (...) of segments (..., 2) (Rezatofighi et al., 2019, algorithm 1): beside the overlap, the
    share of the hull that neither covers, which is nothing where both hold the common point.
    """
    pair = _Pair.of(offsets, targets)
    return 1.0 - pair.overlap() + (pair.hull - pair.union) / pair.hull.clamp(min=LEAST_LENGTH)


def eiou_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """Efficient IoU loss (...) of segments (..., 2) (Zhang et al., 2021, eq. 6): beside the overlap, the distance of
    the centres and the difference of the lengths, each relative to the hull.
    """
    pair = _Pair.of(offsets, targets)
    hull = pair.hull.clamp(min=LEAST_LENGTH)
    return 1.0 - pair.overlap() + torch.square(pair.center_distance / hull) + torch.square(pair.longer_by / hull)


@dataclass(frozen=True)
class _Pair:
    """How two segments lie to each other; every tensor (...)."""

    intersection: Tensor
    union: Tensor
    hull: Tensor  # from the first start to the last end
    center_distance: Tensor
    longer_by: Tensor

    @classmethod
    def of(cls, offsets: Tensor, targets: Tensor) -> _Pair:
        left, right = _wide(offsets).unbind(-1)
        true_left, true_right = _wide(targets).unbind(-1)
        intersection = (torch.minimum(left, true_left) + torch.minimum(right, true_right)).clamp(min=0)
        return cls(
            intersection,
            union=(left + right) + (true_left + true_right) - intersection,
            hull=torch.maximum(left, true_left) + torch.maximum(right, true_right),
            center_distance=0.5 * (right - left - true_right + true_left),
            longer_by=(left + right) - (true_left + true_right),
        )

    def overlap(self) -> Tensor:
        """Intersection over union."""
        return self.intersection / self.union.clamp(min=LEAST_LENGTH)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class ClassLoss:
    """A loss of class logits and targets. `of_quality`: the target of a positive is how well its segment fits."""

    function: Callable[[Tensor, Tensor], Tensor]
    of_quality: bool = False


# By the names of `train_cfg.cls_loss` and `train_cfg.reg_loss`.
CLASS_LOSSES = {"focal": ClassLoss(sigmoid_focal_loss), "quality_focal": ClassLoss(quality_focal_loss, of_quality=True)}
BOUNDARY_LOSSES = {"diou": diou_loss, "giou": giou_loss, "eiou": eiou_loss}
