"""Absolute position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoid_table(length: int, channels: int) -> Tensor:
    """Sinusoid position embeddings (Vaswani et al., 2017, section 3.5), scaled by 1 / sqrt(channels): (length,
    channels) float32.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    pair = torch.arange(channels, dtype=torch.float64) // 2
    angle = position / 10000 ** (2 * pair / channels)
    table = torch.where(torch.arange(channels) % 2 == 0, angle.sin(), angle.cos())
    return (table.float() / channels**0.5).contiguous()


def place_positions(table: Tensor, canvas_lengths: Tensor, length: int) -> Tensor:
    """Position embeddings for `length` positions: (1 or B, length, C).

    A canvas (lengths (B,) int64) longer than the table stretches the table to its own length by linear interpolation,
    never to the length of the batch.
    """
    limit = table.shape[0]
    if length <= limit:
        # No canvas that matters reaches beyond the table: positions on a longer canvas exist only in longer batches.
        return table[None, :length]
    position = torch.arange(length, device=table.device, dtype=table.dtype)[None]
    ratio = (limit / canvas_lengths.clamp(min=limit).to(table.dtype))[:, None]
    source = ((position + 0.5) * ratio - 0.5).clamp(0, limit - 1)
    lower = source.floor().long()
    upper = (lower + 1).clamp(max=limit - 1)
    weight = (source - lower).unsqueeze(-1)
    return table[lower] * (1 - weight) + table[upper] * weight
