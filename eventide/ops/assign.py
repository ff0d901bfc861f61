"""Target assignment: which pyramid point learns which event (ActionFormer, section 3.3; FCOS, Tian et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from eventide.ops.points import Points

# Events whose lengths differ by no more than this (grid units) share a point's class target, as published.
SAME_LENGTH = 1e-3


def assign_targets(
    points: Points, segments: Tensor, label_ids: Tensor, num_classes: int, center_radius: float | None
) -> tuple[Tensor, Tensor]:
    """Class and boundary targets of all points of a batch, without a host synchronisation.

    `segments` (B, G, 2) float32 on the feature grid; `label_ids` (B, G) int64, -1 where a row is no event;
    `center_radius` limits positives to that many strides around an event's centre, None takes all points inside it.
    Returns class targets (B, F, classes) float32 in {0, 1} and distances to start and end in strides of the point's
    level (B, F, 2) float32, meaningful where a class target is positive.
    """
    if segments.shape[1] == 0:
        shape = (segments.shape[0], points.position.shape[0])
        return segments.new_zeros(*shape, num_classes), segments.new_zeros(*shape, 2)
    eligible, left, right = eligible_points(points, segments, label_ids, center_radius)
    length = (segments[..., 1] - segments[..., 0])[:, None, :]
    length = torch.where(eligible, length, torch.inf)
    shortest, index = length.min(dim=2)
    learned = (length <= shortest.unsqueeze(-1) + SAME_LENGTH) & eligible
    one_hot = (label_ids.unsqueeze(-1) == torch.arange(num_classes, device=label_ids.device)).to(segments.dtype)
    class_targets = torch.bmm(learned.to(segments.dtype), one_hot).clamp_(max=1.0)
    index = index.unsqueeze(-1)
    distances = torch.cat((left.gather(2, index), right.gather(2, index)), dim=2)
    return class_targets, distances / points.stride[:, None]


def eligible_points(
    points: Points, segments: Tensor, label_ids: Tensor, center_radius: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Which points may learn which events (B, F, G) bool, and the distances of points to starts and ends (B, F, G)
    in grid units.

    A point may learn an event when it lies inside it (and near its centre), and its level answers for the distance to
    the farther boundary.
    """
    start, end = segments[:, None, :, 0], segments[:, None, :, 1]
    position = points.position[None, :, None]
    left, right = position - start, end - position
    if center_radius is None:
        inside = torch.minimum(left, right) > 0
    else:
        center = 0.5 * (start + end)
        reach = (points.stride * center_radius)[None, :, None]
        low, high = torch.maximum(center - reach, start), torch.minimum(center + reach, end)
        inside = torch.minimum(position - low, high - position) > 0
    farther = torch.maximum(left, right)
    in_range = (farther >= points.nearest[None, :, None]) & (farther <= points.farthest[None, :, None])
    return inside & in_range & (label_ids[:, None, :] >= 0), left, right
