"""Small data sets on disk for tests: annotations, features, and the configuration that fits them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eventide.config import Config
from eventide.types import Batch

CHANNELS = 4
FPS = 10.0
STRIDE = 5.0  # frames: two vectors per second
NUM_FRAMES = 10.0


def record(
    *segments: tuple[float, float, str], subset: str = "training", duration: float | None = 60.0, **other: Any
) -> dict[str, Any]:
    """One recording of an annotation file; segments are (start, end, label)."""
    annotations = [{"segment": [start, end], "label": label} for start, end, label in segments]
    return {"subset": subset, "duration": duration, "fps": FPS, "annotations": annotations, **other}


def write_json(path: Path, database: Mapping[str, Any]) -> Path:
    """An annotation file with this database."""
    path.write_text(json.dumps({"version": "test", "database": database}), encoding="utf-8")
    return path


def write_features(folder: Path, lengths: Mapping[str, int], channels: int = CHANNELS, seed: int = 0) -> Path:
    """Random `.npy` features, `lengths` vectors per recording id."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name, length in lengths.items():
        np.save(folder / f"{name}.npy", rng.normal(size=(length, channels)).astype(np.float32))
    return folder


def point_record(*points: tuple[float, str], subset: str = "training", **other: Any) -> dict[str, Any]:
    """One recording of an annotation file with point events (time, label)."""
    annotations = [{"time": time, "label": label} for time, label in points]
    return record(subset=subset, **other) | {"annotations": annotations}


def plain_database(count: int = 6, events: int = 4) -> dict[str, Any]:
    """`count` training recordings of 60 s with `events` events each, two validation recordings, one negative."""
    labels = ("clap", "jump")
    database = {
        f"rec{index}": record(*((3.0 + 14 * e + index, 8.0 + 14 * e + index, labels[e % 2]) for e in range(events)))
        for index in range(count)
    }
    database["none"] = record()
    database["val0"] = record((1.0, 4.0, "clap"), subset="validation")
    database["val1"] = record((2.0, 9.0, "jump"), (20.0, 31.5, "clap"), subset="Validation")
    return database


def make_config(folder: Path, **dataset: Any) -> Config:
    """A configuration for the data set in `folder`; keyword arguments override keys of the section `dataset`."""
    settings = {
        "json_file": str(folder / "annotations.json"),
        "feat_folder": str(folder / "features"),
        "num_classes": 2,
        "input_dim": CHANNELS,
        "feat_stride": STRIDE,
        "num_frames": NUM_FRAMES,
        "max_seq_len": 64,
        **dataset,
    }
    return Config.model_validate({"dataset": settings, "seed": 11})


def with_points(config: Config, **heatmap: Any) -> Config:
    """The same for SnapFormer; `heatmap` are keys of `model.heatmap`."""
    values = config.model_dump()
    values["model"]["meta_arch"] = "SnapFormer"
    values["model"]["heatmap"].update(heatmap)
    return Config.model_validate(values)


def hapt_config(shared: Path, **dataset: Any) -> Config:
    """A configuration for the real data set in the folder of the fixture `shared_dir`."""
    folder = shared / "data" / "hapt"
    settings = {
        "json_file": str(folder / "segments.json"),
        "feat_folder": str(folder / "features_2hz"),
        "num_classes": 12,
        "input_dim": 300,
        "feat_stride": 25.0,
        "num_frames": 50.0,
        **dataset,
    }
    return make_config(folder, **settings)


def make_data(
    folder: Path, database: Mapping[str, Any] | None = None, lengths: Mapping[str, int] | None = None, **dataset: Any
) -> Config:
    """Write a data set (default: `plain_database`, about two vectors per second) and return its configuration."""
    database = plain_database() if database is None else database
    write_json(folder / "annotations.json", database)
    if lengths is None:
        lengths = {name: 119 - index for index, name in enumerate(database)}
    write_features(folder / "features", lengths)
    return make_config(folder, **dataset)


def write_config(path: Path, folder: Path, lines: Sequence[str] = ()) -> Path:
    """A configuration file for the data set in `folder`; `lines` are added under `dataset`."""
    text = [
        "dataset:",
        f"  json_file: {folder / 'annotations.json'}",
        f"  feat_folder: {folder / 'features'}",
        "  num_classes: 2",
        f"  input_dim: {CHANNELS}",
        f"  feat_stride: {STRIDE:g}",
        f"  num_frames: {NUM_FRAMES:g}",
        "  max_seq_len: 64",
        *(f"  {line}" for line in lines),
        "model:",
        "  backbone: {n_embd: 16, arch: [2, 1, 3]}",
    ]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    """The same batches, to the bit."""
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    for a, b in zip(first, second, strict=True):
        for name in ("features", "mask", "segments", "label_ids"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        assert (a.lengths, a.timelines) == (b.lengths, b.timelines)
