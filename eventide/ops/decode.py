"""Raw pyramid outputs to candidate segments on the feature grid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LevelCandidates(NamedTuple):
    """N candidates of one level, by falling score."""

    segments: Tensor  # (N, 2) float32, grid positions
    scores: Tensor  # (N,) float32
    label_ids: Tensor  # (N,) int64
    point: Tensor  # (N,) int64, the position of the level that each comes from


def class_scores(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Scores in (0, 1), float32, of class logits of any shape; a temperature above 1 draws them towards 0.5."""
    logits = logits.float()
    return (logits if temperature == 1 else logits / temperature).sigmoid()


def decode_level(
    logits: Tensor,
    offsets: Tensor,
    mask: Tensor,
    stride: int,
    *,
    min_score: float,
    topk: int,
    min_length: float,
    temperature: float = 1.0,
) -> LevelCandidates:
    """Candidates of one level of one recording.

    `logits` (T, classes), `offsets` (T, 2) in strides, `mask` (T,) bool. Scores are `class_scores`; keeps those above
    `min_score`, the best `topk` of them, and of these the segments longer than `min_length` grid units.
    """
    classes = logits.shape[-1]
    scores = (class_scores(logits, temperature) * mask.unsqueeze(-1)).flatten()
    kept = (scores > min_score).nonzero().squeeze(1)
    scores = scores[kept]
    scores, order = torch.topk(scores, min(topk, scores.shape[0]), sorted=True)
    kept = kept[order]
    point = torch.div(kept, classes, rounding_mode="floor")
    distance = offsets.float()[point] * stride
    position = (point * stride).to(distance.dtype)
    segments = torch.stack((position - distance[:, 0], position + distance[:, 1]), dim=-1)
    long_enough = segments[:, 1] - segments[:, 0] > min_length
    return LevelCandidates(
        segments[long_enough], scores[long_enough], (kept % classes)[long_enough], point[long_enough]
    )
