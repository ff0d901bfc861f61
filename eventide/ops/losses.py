"""Losses of single elements; callers sum and normalise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss per element (Lin et al., Focal Loss for Dense Object Detection, 2017, eq. 5), for targets between
    0 and 1, in float32.
    """
    logits, targets = logits.float(), targets.float()
    probability = torch.sigmoid(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    correct = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * cross_entropy * (1 - correct) ** gamma


def diou_loss(offsets: Tensor, targets: Tensor, eps: float = 1e-8) -> Tensor:
    """Distance-IoU loss of segments around a common point (Zheng et al., 2020, eq. 7): offsets and targets (...,
    2) not negative -> (...), float32.
    """
    offsets, targets = offsets.float(), targets.float()
    left, right = offsets.unbind(-1)
    true_left, true_right = targets.unbind(-1)
    intersection = torch.minimum(left, true_left) + torch.minimum(right, true_right)
    union = (left + right) + (true_left + true_right) - intersection
    overlap = intersection / union.clamp(min=eps)
    hull = torch.maximum(left, true_left) + torch.maximum(right, true_right)
    center_distance = 0.5 * (right - left - true_right + true_left)
    return 1.0 - overlap + torch.square(center_distance / hull.clamp(min=eps))
