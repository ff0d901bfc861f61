"""Heatmaps of point events: targets, the loss that fits them, and peaks (Law and Deng, CornerNet, 2018; Zhou et al.,
Objects as Points, 2019; here along time, one map per class).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_WIDTH = 1.0  # standard deviation of a target Gaussian, in positions: a narrower one would be lost between two
NEAR = 1.25  # standard deviation, in positions, of the weights around a peak that its score takes in
REACH = 4  # positions on each side that have such a weight
OFFSET_REACH = 1.0  # positions nearer than this to an event learn where it is


class HeatmapTargets(NamedTuple):
    """Targets of one level, T positions, C classes."""

    heat: Tensor  # (B, T, C) float32, 0 to 1; 1 exactly at the position nearest to an event
    offset: Tensor  # (B, T, C) float32, to the nearest event of the class, in positions; 0 where there is none
    learns_offset: Tensor  # (B, T, C) bool, near enough to an event for its offset to count


def heatmap_targets(
    length: int, stride: int, events: Tensor, label_ids: Tensor, num_classes: int, last: Tensor
) -> HeatmapTargets:
    """Targets of `length` positions, `stride` grid steps apart, without a host synchronisation.

    `events` (B, G, 2) float32: time less width, time plus width, on the grid; the width is the standard deviation of
    the Gaussian. `label_ids` (B, G) int64, -1 where a row is no event. `last` (B,) int64: the last real position of
    each sequence; an event beyond it counts there.
    """
    events = events / stride
    center = events.mean(-1)
    width = (0.5 * (events[..., 1] - events[..., 0])).clamp(min=LEAST_WIDTH)
    known = label_ids >= 0
    position = torch.arange(length, device=events.device, dtype=events.dtype)
    distance = center[:, None, :] - position[:, None]  # (B, T, G), from the position to the event
    gaussian = torch.exp(-0.5 * (distance / width[:, None, :]) ** 2)
    nearest = (
        torch.minimum(center.round().clamp(min=0.0), last[:, None].to(center.dtype))[:, None, :] == position[:, None]
    )
    index = label_ids.clamp(min=0)[:, None, :].expand(-1, length, -1)
    shape = (events.shape[0], length, num_classes)

    def best(values: Tensor, start: float, reduce: str) -> Tensor:
        """(B, T, G) of all events to (B, T, C), the largest or least of each class."""
        values = torch.where(known[:, None, :], values, start)
        return values.new_full(shape, start).scatter_reduce(2, index, values, reduce)

    heat = best(torch.where(nearest, 1.0, gaussian.clamp(max=1 - 1e-4)), 0.0, "amax")
    after = best(torch.where(distance >= 0, distance, torch.inf), torch.inf, "amin")
    before = best(torch.where(distance < 0, -distance, torch.inf), torch.inf, "amin")
    offset = torch.where(after <= before, after, -before)
    learns = torch.minimum(after, before) < OFFSET_REACH
    return HeatmapTargets(heat, torch.where(learns, offset, 0.0), learns)


def heatmap_focal_loss(logits: Tensor, heat: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """Penalty-reduced focal loss per element (CornerNet, eq. 1), float32: `heat` is 1 at an event, and what is near one
    is punished less.
    """
    logits = logits.float()
    probability = torch.sigmoid(logits)
    at_event = (1 - probability) ** alpha * F.softplus(-logits)
    elsewhere = (1 - heat) ** beta * probability**alpha * F.softplus(logits)
    return torch.where(heat >= 1, at_event, elsewhere)


def peaks(scores: Tensor) -> Tensor:
    """Where `scores` (T, C) are higher than just before and not lower than just after: (T, C) bool. Of a plateau the
    first position is the peak. Of two neighbouring positions at most one is a peak.
    """
    low = scores.new_full((1, scores.shape[1]), -torch.inf)
    around = torch.cat((low, scores, low))
    return (scores > around[:-2]) & (scores >= around[2:])


def around(logits: Tensor, mask: Tensor) -> Tensor:
    """Probability (T, C) that an event lies near each position, from heatmap logits (T, C) where `mask` (T,) is True.

    One less the probability that there is none, 1 - prod (1 - p)^w over the positions around, with Gaussian weights:
    the score of a peak. A peak that its neighbours share is more likely right than a lone spike. No neighbour counts
    more than the position itself: what is near a higher peak belongs to that one.
    """
    none = -F.softplus(logits.float()) * mask.unsqueeze(-1)  # log (1 - p), 0 where nothing can be
    padded, total = F.pad(none, (0, 0, REACH, REACH)), torch.zeros_like(none)
    for distance in range(-REACH, REACH + 1):
        there = padded[REACH + distance : REACH + distance + len(none)]
        total += math.exp(-0.5 * (distance / NEAR) ** 2) * torch.maximum(there, none)
    return -torch.expm1(total)
