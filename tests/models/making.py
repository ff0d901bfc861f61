"""Small models and batches for the tests that every architecture passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eventide.config import Config
from eventide.models import Architecture, build

CHANNELS, CLASSES = 12, 3


def small_config(meta_arch: str = "LocPointTransformer", **changes: Any) -> Config:
    """A resolved configuration of a small model; `changes` are dotted keys with __ for the dots."""
    config: dict[str, Any] = {
        "dataset": {"input_dim": CHANNELS, "num_classes": CLASSES, "max_seq_len": 144},
        "model": {
            "meta_arch": meta_arch,
            "backbone": {"n_embd": 16, "n_head": 2, "arch": (2, 1, 2), "mha_win_size": 5},
        },
        "train_cfg": {"droppath": 0.0},
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        section = config
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value
    return Config(**config).resolve()


def build_random(config: Config, seed: int = 0) -> Architecture:
    """The model in evaluation mode with every parameter moved off its initial value, so that none is without effect."""
    torch.manual_seed(seed)
    architecture = build(config)
    with torch.no_grad():
        for parameter in architecture.detector.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    architecture.detector.eval()
    return architecture


def pad_together(sequences: list[Tensor], extra: int = 0, filling: float = 0.0) -> tuple[Tensor, Tensor]:
    """(C, T_i) each to features (B, C, T) and mask (B, T), `extra` longer than the longest; padding is `filling`."""
    length = max(x.shape[1] for x in sequences) + extra
    features = torch.full((len(sequences), sequences[0].shape[0], length), filling)
    mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, x in enumerate(sequences):
        features[row, :, : x.shape[1]] = x
        mask[row, : x.shape[1]] = True
    return features, mask
