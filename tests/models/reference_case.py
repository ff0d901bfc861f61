"""A reference case: a tiny published model with its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eventide.config import Config
from eventide.config_loading import load_config
from eventide.models import Architecture, build

FOLDER = Path(__file__).resolve().parent.parent / "reference"
COPIED = ["anet_like", "conv_backbone", "fpn_full_relpe"]
SHARED = ["ego4d_like", "epic_like", "thumos_like", "two_streams"]


@dataclass
class ReferenceCase:
    """`numbers` are the arrays of case.npz, `config` the translated configuration."""

    config: Config
    numbers: Any
    weights: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> ReferenceCase:
        stored = torch.load(folder / "epoch_001.pth.tar", weights_only=True)
        weights = {name.removeprefix("module."): tensor for name, tensor in stored["state_dict_ema"].items()}
        with np.load(folder / "case.npz", allow_pickle=False) as file:
            numbers = {name: file[name] for name in file.files}
        return cls(load_config(folder / "config.yaml"), numbers, weights)

    def build(self) -> Architecture:
        """The model with the published weights, in evaluation mode (drop path and dropout off)."""
        architecture = build(self.config)
        architecture.detector.load_state_dict(self.weights, strict=True)
        architecture.detector.eval()
        return architecture

    def indices(self, part: str) -> list[int]:
        """Numbers of the sequences of `part`, "train" or "test"."""
        return sorted(
            {int(name.split("/")[1]) for name in self.numbers if name.startswith(f"{part}/") and "feats" in name}
        )

    def batch(self, part: str, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Features (B, C, T) and mask (B, T), padded to the longest."""
        features = [torch.from_numpy(self.numbers[f"{part}/{i}/feats"]) for i in indices]
        longest = max(x.shape[1] for x in features)
        padded = torch.stack([torch.nn.functional.pad(x, (0, longest - x.shape[1])) for x in features])
        mask = torch.stack([torch.arange(longest) < x.shape[1] for x in features])
        return padded, mask

    def events(self) -> tuple[Tensor, Tensor]:
        """Segments (B, G, 2) on the grid and label ids (B, G) of the training batch, -1 where there is none."""
        indices = self.indices("train")
        most = max(len(self.numbers[f"train/{i}/labels"]) for i in indices)
        segments, label_ids = torch.zeros(len(indices), most, 2), torch.full((len(indices), most), -1)
        for row, i in enumerate(indices):
            labels = torch.from_numpy(self.numbers[f"train/{i}/labels"])
            segments[row, : len(labels)] = torch.from_numpy(self.numbers[f"train/{i}/segments"])
            label_ids[row, : len(labels)] = labels
        return segments, label_ids
