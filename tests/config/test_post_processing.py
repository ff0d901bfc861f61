"""Keys of suppression, rules and uncertain boundaries that contradict one another."""

from __future__ import annotations

from typing import Any

import pytest

from eventide.config_checks import find_contradictions
from tests.config.test_checks import config_with

TBT = {"model__meta_arch": "TBTFormer"}

ERRORS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "width of a class, across classes",
        {"test_cfg__class_sigma": {"a": 0.5}, "test_cfg__multiclass_nms": False},
        "test_cfg.class_sigma",
        "test_cfg.multiclass_nms is false",
    ),
    (
        "voting within a class across classes",
        {"test_cfg__class_voting_thresh": 0.5, "test_cfg__multiclass_nms": False},
        "test_cfg.class_voting_thresh",
        "use voting_thresh",
    ),
    (
        "width of a class before classes",
        {"test_cfg__class_sigma": {"a": 0.5}, "test_cfg__ext_score_file": "a.json"},
        "test_cfg.class_sigma",
        "before test_cfg.ext_score_file gives the classes",
    ),
    *(
        (f"{key} of points", {"model__meta_arch": "SnapFormer", f"test_cfg__{key}": value}, f"test_cfg.{key}", "is for")
        for key, value in {
            "use_diou_nms": True,
            "class_sigma": {"a": 1.0},
            "max_overlap": 0.5,
            "duration_limits": (0.0, 1.0),
        }.items()
    ),
    ("limits upside down", {"test_cfg__duration_limits": (2.0, 1.0)}, "test_cfg.duration_limits", "got [2, 1]"),
    (
        "limits of a class below 0",
        {"test_cfg__duration_limits": {"a": (0.0, 1.0), "b": (-1.0, 1.0)}},
        "test_cfg.duration_limits",
        "got [-1, 1] of b",
    ),
    *(
        (f"quantiles {label}", {**TBT, "test_cfg__quantiles": levels}, "test_cfg.quantiles", "rising numbers")
        for label, levels in {
            "falling": [0.9, 0.1],
            "equal": [0.5, 0.5],
            "of 0": [0.0, 0.5],
            "of 1": [0.5, 1.0],
            "of nothing": [],
        }.items()
    ),
    ("quantiles of segments", {"test_cfg__quantiles": [0.5]}, "test_cfg.quantiles", "belongs to model.meta_arch TBT"),
    (
        "scale of points",
        {"model__meta_arch": "SnapFormer", "test_cfg__std_scale": 2.0},
        "test_cfg.std_scale",
        "belongs to model.meta_arch TBTFormer, not to SnapFormer",
    ),
]

WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "width of a class without soft suppression",
        {"test_cfg__class_sigma": {"a": 0.5}, "test_cfg__nms_method": "hard"},
        "test_cfg.class_sigma",
        "no effect with nms_method hard",
    ),
    (
        "distance of centres without suppression",
        {"test_cfg__use_diou_nms": True, "test_cfg__nms_method": "none"},
        "test_cfg.use_diou_nms",
        "no effect",
    ),
]

CONSISTENT: list[tuple[str, dict[str, Any]]] = [
    (
        "rules of all classes",
        {"test_cfg__min_gap": 0.0, "test_cfg__max_overlap": 0.5, "test_cfg__duration_limits": (1.0, 1.0)},
    ),
    (
        "rules of each class",
        {
            "test_cfg__min_gap": {"a": 1.0},
            "test_cfg__max_overlap": {"a": 0.0},
            "test_cfg__duration_limits": {"a": (0.0, 1.0)},
            "test_cfg__class_sigma": {"a": 0.5},
            "test_cfg__class_threshold": {"a": 0.0, "b": 1.0},
        },
    ),
    ("points apart", {"model__meta_arch": "SnapFormer", "test_cfg__min_gap": 0.5}),
    ("uncertain boundaries", {**TBT, "test_cfg__quantiles": [0.1, 0.5, 0.9], "test_cfg__std_scale": 1.2}),
    ("temperature", {"test_cfg__score_temperature": 0.5, "test_cfg__use_diou_nms": True}),
]


@pytest.mark.parametrize(
    ("label", "values", "key", "message", "warning"),
    [*((*case, False) for case in ERRORS), *((*case, True) for case in WARNINGS)],
    ids=[case[0] for case in ERRORS + WARNINGS],
)
def test_contradictions(label: str, values: dict[str, Any], key: str, message: str, warning: bool) -> None:
    found = find_contradictions(config_with(**values))
    assert [(finding.keys[0], finding.warning) for finding in found] == [(key, warning)]
    assert message in found[0].message


@pytest.mark.parametrize(("label", "values"), CONSISTENT, ids=[case[0] for case in CONSISTENT])
def test_consistent(label: str, values: dict[str, Any]) -> None:
    assert find_contradictions(config_with(**values)) == []
