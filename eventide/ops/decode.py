"""Raw pyramid outputs to candidate segments on the feature grid."""

from __future__ import annotations

import torch
from torch import Tensor


def decode_level(
    logits: Tensor, offsets: Tensor, mask: Tensor, stride: int, *, min_score: float, topk: int, min_length: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidates of one level of one recording.

    `logits` (T, classes), `offsets` (T, 2) in strides, `mask` (T,) bool. Keeps scores above `min_score`, the best
    `topk` of them, and of these the segments longer than `min_length` grid units. Returns segments (N, 2) on the grid,
    scores (N,), class ids (N,) int64, by falling score.
    """
    classes = logits.shape[-1]
    scores = (logits.float().sigmoid() * mask.unsqueeze(-1)).flatten()
    kept = (scores > min_score).nonzero().squeeze(1)
    scores = scores[kept]
    scores, order = torch.topk(scores, min(topk, scores.shape[0]), sorted=True)
    kept = kept[order]
    point = torch.div(kept, classes, rounding_mode="floor")
    distance = offsets.float()[point] * stride
    position = (point * stride).to(distance.dtype)
    segments = torch.stack((position - distance[:, 0], position + distance[:, 1]), dim=-1)
    long_enough = segments[:, 1] - segments[:, 0] > min_length
    return segments[long_enough], scores[long_enough], (kept % classes)[long_enough]
