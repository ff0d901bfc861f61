"""The files of configs/ that carry a published experiment have its settings, all but the three listed here.

The table holds the settings of the experiments that ActionFormer publishes, as facts, in the keys of its own files;
what its files leave out are its defaults, which the loader knows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventide.config_loading import load_config
from tests.config.flat import flat
from tests.conftest import REPOSITORY

# Eventide's choices, with the reasons in docs/configurations.md: (here, as published).
DEPARTURES = {
    "model.backbone.padding": ("own", "published"),
    "loader.drop_last": (False, True),
    "train_cfg.ema_ramp": (True, False),
}
WIDENING = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 128], [64, 256]]
CROP = {"crop_ratio": [0.9, 1.0]}
NORM = {"clip_grad_l2norm": 1.0, "cls_prior_prob": 0.01, "center_sample": "radius", "center_sample_radius": 1.5}


def open_ranges(levels: int) -> list[list[int]]:
    """Ranges of `levels` levels that overlap by half, the last one open."""
    return [*WIDENING[: levels - 1], [2 ** (levels - 1), 10000]]


def thumos() -> dict[str, Any]:
    return {
        "dataset_name": "thumos",
        "train_split": ["validation"],
        "val_split": ["test"],
        "dataset": {
            "json_file": "./data/thumos/annotations/thumos14.json",
            "feat_folder": "./data/thumos/i3d_features",
            "file_prefix": None,
            "file_ext": ".npy",
            "num_classes": 20,
            "input_dim": 2048,
            "feat_stride": 4,
            "num_frames": 16,
            "trunc_thresh": 0.5,
            "max_seq_len": 2304,
            **CROP,
        },
        "model": {"fpn_type": "identity", "max_buffer_len_factor": 6.0, "n_mha_win_size": 19},
        "opt": {"learning_rate": 0.0001, "epochs": 30, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 100, **NORM},
        "test_cfg": {
            "voting_thresh": 0.7,
            "pre_nms_topk": 2000,
            "max_seg_num": 200,
            "min_score": 0.001,
            "multiclass_nms": True,
        },
    }


def anet(features: str, input_dim: int, fps: int) -> dict[str, Any]:
    folder = "./data/anet_1.3"
    return {
        "dataset_name": "anet",
        "train_split": ["training"],
        "val_split": ["validation"],
        "dataset": {
            "json_file": f"{folder}/annotations/anet1.3_{features}_filtered.json",
            "feat_folder": f"{folder}/{features}_features",
            "file_prefix": "v_",
            "file_ext": ".npy",
            "num_classes": 1,
            "input_dim": input_dim,
            "feat_stride": 16,
            "num_frames": 16,
            "default_fps": fps,
            "trunc_thresh": 0.5,
            **CROP,
            "max_seq_len": 192,
            "force_upsampling": True,
        },
        "model": {
            "fpn_type": "identity",
            "max_buffer_len_factor": 1.0,
            "n_mha_win_size": [7, 7, 7, 7, 7, -1],
            "n_head": 4,
            "embd_dim": 256,
            "fpn_dim": 256,
            "head_dim": 256,
            "use_abs_pe": True,
        },
        "opt": {"learning_rate": 0.001, "epochs": 10, "weight_decay": 0.05},
        "loader": {"batch_size": 16},
        "train_cfg": {"init_loss_norm": 200, "label_smoothing": 0.1, "droppath": 0.1, "loss_weight": 2.0, **NORM},
        "test_cfg": {
            "voting_thresh": 0.9,
            "pre_nms_topk": 2000,
            "max_seg_num": 100,
            "min_score": 0.001,
            "multiclass_nms": False,
            "nms_sigma": 0.75,
            "duration_thresh": 0.001,
            "ext_score_file": f"{folder}/annotations/cuhk_val_simp_share.json",
        },
    }


def epic(task: str, classes: int, **training: float) -> dict[str, Any]:
    return {
        "dataset_name": "epic",
        "train_split": ["training"],
        "val_split": ["validation"],
        "dataset": {
            "json_file": f"./data/epic_kitchens/annotations/epic_kitchens_100_{task}.json",
            "feat_folder": "./data/epic_kitchens/features",
            "file_prefix": None,
            "file_ext": ".npz",
            "num_classes": classes,
            "input_dim": 2304,
            "feat_stride": 16,
            "num_frames": 32,
            "default_fps": 30,
            "trunc_thresh": 0.3,
            **CROP,
            "max_seq_len": 2304,
        },
        "model": {
            "fpn_type": "identity",
            "max_buffer_len_factor": 4.0,
            "n_mha_win_size": 9,
            "regression_range": open_ranges(6),
        },
        "opt": {"learning_rate": 0.0001, "epochs": 16, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 250, **NORM, **training},
        "test_cfg": {
            "pre_nms_topk": 5000,
            "max_seg_num": 2000,
            "min_score": 0.001,
            "nms_sigma": 0.4,
            "multiclass_nms": True,
        },
    }


def ego4d(
    features: list[str], input_dim: int | list[int], width: dict[str, Any], frames: int = 32, blocks: int = 7
) -> dict[str, Any]:
    folders = [f"./data/ego4d/{name}_features" for name in features]
    return {
        "dataset_name": "ego4d",
        "train_split": ["training"],
        "val_split": ["validation"],
        "dataset": {
            "json_file": "./data/ego4d/annotations/ego4d.json",
            "feat_folder": folders[0] if len(folders) == 1 else folders,
            "file_prefix": None,
            "file_ext": ".npy",
            "num_classes": 110,
            "input_dim": input_dim,
            "feat_stride": 16,
            "num_frames": frames,
            "default_fps": 30,
            "trunc_thresh": 0.3,
            **CROP,
            "max_seq_len": 1024,
        },
        "model": {
            "regression_range": open_ranges(blocks + 1),
            "fpn_type": "identity",
            "backbone_arch": [2, 2, blocks],
            "max_buffer_len_factor": 4.0,
            "n_mha_win_size": 9,
            "use_abs_pe": True,
            **width,
        },
        "opt": {"learning_rate": 0.0001, "epochs": 10, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 100, "dropout": 0.1, "droppath": 0.1, **NORM},
        "test_cfg": {
            "pre_nms_topk": 5000,
            "max_seg_num": 2000,
            "min_score": 0.001,
            "nms_sigma": 0.9,
            "multiclass_nms": True,
            "voting_thresh": 0.95,
        },
    }


def width(total: int, heads: int | None = None, embedding: list[int] | None = None) -> dict[str, Any]:
    """Channels of an Ego4D model; 512 with 4 heads are the default and not written."""
    channels = {"embd_dim": embedding or total, "fpn_dim": total, "head_dim": total}
    return {**channels, **({"n_head": heads} if heads else {})}


PUBLISHED = {
    "thumos_i3d": thumos(),
    "anet_tsp": anet("tsp", 512, 15),
    "anet_i3d": anet("i3d", 2048, 25),
    "epic_slowfast_verb": epic("verb", 97),
    "epic_slowfast_noun": epic("noun", 300, label_smoothing=0.1),
    "ego4d_slowfast": ego4d(["slowfast"], 2304, {}, blocks=6),
    "ego4d_omnivore": ego4d(["omnivore"], 1536, {}),
    "ego4d_egovlp": ego4d(["egovlp"], 256, width(384), frames=16),
    "ego4d_omnivore_egovlp": ego4d(["omnivore", "egovlp"], 1792, width(768, 12)),
    "ego4d_slowfast_egovlp": ego4d(["slowfast", "egovlp"], 2560, width(768, 12)),
    "ego4d_slowfast_omnivore_egovlp": ego4d(
        ["slowfast", "omnivore", "egovlp"], [2304, 1536, 256], width(1024, 16, [256, 384, 384])
    ),
}


def settings(path: Path) -> dict[str, Any]:
    """Every setting of a file by its dotted key, paths in one form."""
    found = flat(load_config(path))
    for key in ("output_folder", "dataset.json_file", "dataset.feat_folder", "test_cfg.ext_score_file"):
        value = found[key]
        found[key] = [os.path.normpath(item) for item in ([value] if isinstance(value, str) else value or [])]
    return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_those_published(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTIDE_DATA", raising=False)
    published = tmp_path / "published.yaml"
    published.write_text(yaml.safe_dump(PUBLISHED[name]), encoding="utf-8")
    ours, theirs = settings(REPOSITORY / "configs" / f"{name}.yaml"), settings(published)
    assert {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]} == DEPARTURES


def test_the_documentation_tells_the_departures() -> None:
    text = (REPOSITORY / "docs" / "configurations.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in DEPARTURES)
