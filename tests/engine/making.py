"""A tiny training: 5 recordings, a model of a few hundred weights, 3 steps an epoch. A step takes milliseconds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eventide.config import Config
from eventide.config_loading import config_to_yaml
from eventide.engine.fit import FitOptions, Trainer
from eventide.engine.run_folder import RunFolder
from eventide.engine.setup import train

CHANNELS = 4
LABELS = ("clap", "jump")


def write_data(folder: Path, seed: int = 0, without_events: Sequence[str] = ()) -> None:
    """Annotations and features under `folder/data`: a class shows in the channel of its number."""
    rng = np.random.default_rng(seed)
    features = folder / "data" / "features"
    features.mkdir(parents=True)
    database: dict[str, Any] = {}
    for number in range(8):
        name, length = f"rec{number}", int(rng.integers(24, 60))
        rows = 0.3 * rng.normal(size=(length, CHANNELS))
        annotations = []
        for event in range(2):
            start, label = 4 + 12 * event + int(rng.integers(0, 4)), int(rng.integers(0, 2))
            rows[start : start + 5, label] += 2.0
            annotations.append({"segment": [start / 2, (start + 5) / 2], "label": LABELS[label], "label_id": label})
        if name in without_events:
            annotations = []
        np.save(features / f"{name}.npy", rows.astype(np.float32))
        subset = "training" if number < 5 else "validation"
        database[name] = {"subset": subset, "duration": length / 2, "fps": 10.0, "annotations": annotations}
    (folder / "data" / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")


def tiny_config(folder: Path, **changes: dict[str, Any]) -> Config:
    """Configuration of the tiny training; `changes` are per section, e.g. train_cfg={"accum_steps": 2}."""
    sections: dict[str, dict[str, Any]] = {
        "dataset": {
            "json_file": str(folder / "data" / "annotations.json"),
            "feat_folder": str(folder / "data" / "features"),
            "num_classes": 2,
            "input_dim": CHANNELS,
            "feat_stride": 5.0,
            "num_frames": 5.0,
            "max_seq_len": 32,
        },
        "model": {"backbone": {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}, "head_num_layers": 2},
        "opt": {"learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1},
        "train_cfg": {"droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0},
    }
    for name, values in changes.items():
        sections[name] = {**sections.get(name, {}), **values}
    content = {"output_folder": str(folder / "runs"), "seed": 7, "device": "cpu", **sections}
    return Config.model_validate_json(json.dumps(content)).resolve()


def write_config(folder: Path, config: Config, name: str = "tiny.yaml") -> Path:
    """The configuration as a file."""
    path = folder / name
    path.write_text(config_to_yaml(config), encoding="utf-8")
    return path


def run_training(folder: Path, config: Config, name: str, **options: Any) -> Trainer:
    """Train in this process; the run's folder is `folder/runs/tiny_<name>`."""
    return train(config, RunFolder(folder / "runs" / f"tiny_{name}"), FitOptions(**{"eval_freq": 2, **options}))


def all_tensors(value: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested containers, by its way through them."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: t for key, item in items for name, t in all_tensors(item, f"{prefix}/{key}").items()}


def fill(folder: Path) -> None:
    """Leave no byte of a small disk."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"0" * 512):
            pass
