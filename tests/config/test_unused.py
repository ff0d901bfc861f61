"""Keys that are set and do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventide.config import TestConfig, TrainConfig
from eventide.config_checks import find_contradictions
from eventide.config_loading import load_config_with_origins
from eventide.config_schema import fields
from eventide.config_unused import SUPPRESSION, TRAINING
from tests.config.test_checks import config_with

SNAP = {"model__meta_arch": "SnapFormer"}
OWN_RANGES = {"model__backbone__arch": (2, 2, 1), "model__regression_range": [(0, 2), (2, 10000)]}

OF_SEGMENTS: dict[str, Any] = {
    "train_cfg__center_sample": "none",
    "train_cfg__center_sample_radius": 2.0,
    "train_cfg__loss_weight": 0.5,
    "train_cfg__label_smoothing": 0.1,
    "test_cfg__nms_method": "none",
    "test_cfg__nms_sigma": 0.4,
    "test_cfg__iou_threshold": 0.5,
    "test_cfg__voting_thresh": 0.0,
    "test_cfg__multiclass_nms": False,
    "test_cfg__duration_thresh": 0.0,
}


def test_every_key_is_in_the_table() -> None:
    keys = [*(f"train_cfg__{key}" for key in TRAINING), *(f"test_cfg__{key}" for key in SUPPRESSION)]
    assert sorted(OF_SEGMENTS) == sorted(keys)


@pytest.mark.parametrize("name", OF_SEGMENTS)
def test_keys_of_segments_do_nothing_for_points(name: str) -> None:
    key = name.replace("__", ".")
    (found,) = find_contradictions(config_with(**SNAP, **{name: OF_SEGMENTS[name]}))
    assert (found.keys, found.warning) == ((key, "model.meta_arch"), True)
    assert "no effect with model.meta_arch SnapFormer, which finds points; leave it out" in found.message
    assert find_contradictions(config_with(**{name: OF_SEGMENTS[name]})) == []


def test_one_warning_names_all_keys() -> None:
    (found,) = find_contradictions(config_with(**SNAP, **OF_SEGMENTS, **OWN_RANGES))
    assert found.warning
    names = {name.replace("__", ".") for name in OF_SEGMENTS}
    assert set(found.keys) == names | {"model.regression_range", "model.meta_arch"}
    assert [key for key in found.keys[1:] if key not in found.message] == []
    assert found.message.endswith("leave them out")
    assert set(found.keys) <= {".".join(path) for path in fields()}


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("defaults", {}),
        (
            "defaults as a base file gives them",
            {"test_cfg__voting_thresh": 0.7, "train_cfg__center_sample_radius": 1.5},
        ),
        ("usual ranges", {"model__backbone__arch": (2, 2, 1), "model__regression_range": [(0, 4), (4, 10000)]}),
        (
            "usual ranges from a level on",
            {
                "model__backbone__arch": (2, 2, 2),
                "model__fpn_start_level": 1,
                "model__regression_range": [(0, 4), (4, 10000)],
            },
        ),
        ("ways of points", {"test_cfg__min_gap": 0.5, "test_cfg__min_score": 0.1, "train_cfg__cls_prior_prob": 0.1}),
    ],
)
def test_nothing_to_say(label: str, values: dict[str, Any]) -> None:
    assert find_contradictions(config_with(**SNAP, **values)) == []
    assert find_contradictions(config_with(**SNAP, **values).resolve()) == []


@pytest.mark.parametrize(
    ("label", "values", "keys"),
    [
        (
            "nothing suppressed",
            {"test_cfg__nms_method": "none"},
            [("test_cfg.class_voting_thresh", "test_cfg.nms_method")],
        ),
        ("hard", {"test_cfg__nms_method": "hard"}, []),
        ("off", {"test_cfg__nms_method": "none", "test_cfg__class_voting_thresh": 0.0}, []),
    ],
)
@pytest.mark.parametrize("architecture", ["LocPointTransformer", "TBTFormer"])
def test_voting(architecture: str, label: str, values: dict[str, Any], keys: list[tuple[str, ...]]) -> None:
    given = {"model__meta_arch": architecture, "test_cfg__class_voting_thresh": 0.5, **values}
    found = find_contradictions(config_with(**given))
    assert [(finding.keys, finding.warning) for finding in found] == [(key, True) for key in keys]


def test_the_warning_says_where(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train_cfg: {label_smoothing: 0.1}\ntest_cfg: {nms_sigma: 0.4}\n")
    (tmp_path / "c.yaml").write_text("base: base.yaml\nmodel: {meta_arch: SnapFormer}\n")
    (notice,) = load_config_with_origins(tmp_path / "c.yaml").notices
    assert "base.yaml:1" in notice
    assert "train_cfg.label_smoothing: is for segments" in notice
    assert "nor have test_cfg.nms_sigma; leave them out" in notice
    (tmp_path / "c.yaml").write_text(
        "base: base.yaml\nmodel: {meta_arch: SnapFormer}\n"
        f"train_cfg: {{label_smoothing: {TrainConfig().label_smoothing}}}\n"
        f"test_cfg: {{nms_sigma: {TestConfig().nms_sigma}}}\n"
    )
    assert load_config_with_origins(tmp_path / "c.yaml").notices == []
