"""Every leaf of the decision tree: labelled situations and what they lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eventide.engine.recommend.tree import BRANCHES, HARDWARE
from tests.engine.recommend.making import CPU, advised, data_of, gpu, situation, two_annotators, values

SPEED, QUALITY = {"goals": frozenset({"speed"})}, {"goals": frozenset({"quality"})}
B = "model.backbone."

LEAVES: list[Any] = [
    ("points", {"events": "points"}, {"model.meta_arch": "SnapFormer", "model.fpn_type": "cs_fpn"}),
    ("points with noisy labels", {"events": "points", "noisy": True}, {"model.meta_arch": "SnapFormer"}),
    (
        "noisy segments",
        {"noisy": True},
        {
            "model.meta_arch": "TBTFormer",
            "model.fpn_type": "cs_fpn",
            "model.reg_max": 16,
            "model.dfl_weight": 0.25,
            B + "n_head": 16,
            B + "n_hidden": 6 * 256,
        },
    ),
    ("clean segments", {}, {"model.meta_arch": "LocPointTransformer", "model.fpn_type": "fpn", "model.reg_max": None}),
    ("clean segments, speed alone", SPEED, {"model.fpn_type": None}),
    ("PyTorch 2", {}, {B + "use_flash_attn": True}),
    ("PyTorch 1", {"machine": gpu(24, torch_version="1.13.1")}, {B + "use_flash_attn": False}),
    ("short", {"longest": 2048}, {B + "use_rope": True, B + "mha_win_size": -1}),
    ("long", {"longest": 2049}, {B + "use_rope": True, B + "mha_win_size": [9, 9, 9, 9, 9, -1]}),
    ("very long", {"longest": 30_000}, {"dataset.max_seq_len": 8192, B + "use_abs_pe": False}),
    ("speed is critical", SPEED, {B + "use_rms_norm": True, B + "use_swiglu": False, "--amp": True}),
    ("quality is critical", QUALITY, {B + "use_rms_norm": False, B + "use_swiglu": True}),
    ("both", {}, {B + "use_rms_norm": True, B + "use_swiglu": True, B + "n_kv_head": None}),
    (
        "prototype",
        {"goals": frozenset({"prototype"})},
        {"model.backbone_type": "convTransformer", B + "use_rope": None, B + "use_flash_attn": None},
    ),
    ("deployment", {"goals": frozenset({"deployment"})}, {B + "n_kv_head": 2, B + "use_swiglu": False}),
    ("deployment and quality", {"goals": frozenset({"deployment", "quality"})}, {B + "use_swiglu": True}),
    (
        "8 GB",
        {"machine": gpu(8)},
        {"loader.batch_size": 1, B + "use_swiglu": False, "--accum-steps": 4, "--amp": True},
    ),
    ("12 GB", {"machine": gpu(12.9)}, {"loader.batch_size": 1, B + "use_swiglu": False, "--accum-steps": 4}),
    ("RTX 4090", {"machine": gpu(24)}, {"loader.batch_size": 2, B + "use_swiglu": True, "--accum-steps": 4}),
    ("V100", {"machine": gpu(34)}, {"loader.batch_size": 4, "--accum-steps": 2, "--amp": True}),
    ("A100", {"machine": gpu(80)}, {"loader.batch_size": 8, "--accum-steps": None, "--amp": True}),
    (
        "no GPU",
        {"machine": CPU},
        {"--amp": None, "--accum-steps": None, B + "mha_win_size": 9, B + "use_flash_attn": True},
    ),
]


@pytest.mark.parametrize(("label", "changes", "expected"), LEAVES, ids=[leaf[0] for leaf in LEAVES])
def test_every_leaf(label: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = values(**changes)
    assert {key: found.get(key) for key in expected} == expected


def test_both_answers_of_every_question_are_tested() -> None:
    situations = [situation(**changes) for _, changes, _ in LEAVES]
    assert {(b.question, b.holds(s)) for b in BRANCHES for s in situations} == {
        (b.question, answer) for b in BRANCHES for answer in (True, False)
    }
    assert [row.name for row in HARDWARE] == ["as 8 to 12 GB", "as RTX 3090 and 4090", "as V100", "as A100 and H100"]


def test_every_choice_has_a_reason_without_holes() -> None:
    for label, changes, _ in LEAVES:
        for key, choice in advised(**changes).choices.items():
            assert choice.reason, (label, key)
            assert "{" not in choice.reason, (label, key)
            assert "\n" not in choice.reason, (label, key)


@pytest.mark.parametrize(
    ("label", "changes", "key", "source"),
    [
        ("architecture of points", {"events": "points"}, "model.meta_arch", "<events>"),
        ("architecture of noisy labels", {"noisy": True}, "model.meta_arch", "<noisy>"),
        ("architecture of clean labels", {}, "model.meta_arch", "<noisy>"),
        ("switch", {}, B + "use_swiglu", "<goals>"),
        ("length", {}, "dataset.max_seq_len", "<longest>"),
        ("batch", {}, "loader.batch_size", "<machine>"),
        ("what nobody gave", {}, "dataset.num_classes", "not given"),
        ("what nobody gave, width", {}, B + "n_embd", "assumed"),
    ],
)
def test_the_source_of_a_fact_stands_in_the_reason(label: str, changes: dict[str, Any], key: str, source: str) -> None:
    assert source in advised(**changes).choices[key].reason


@pytest.mark.parametrize(
    ("label", "changes", "part"),
    [
        ("several GPUs", {"machine": gpu(24, count=4)}, "4 GPUs (<machine>)"),
        ("no GPU", {"machine": CPU}, "No GPU"),
        ("very long", {"longest": 5000}, "test_cfg.chunk"),
    ],
)
def test_notes(label: str, changes: dict[str, Any], part: str) -> None:
    assert any(part in note for note in advised(**changes).notes)


def test_two_annotators_of_points_set_the_width_of_targets() -> None:
    data = data_of(np.array([900.0] * 50), np.full(100, 5.0))
    for difference, width in ((0.3, None), (1.0, 0.707)):
        noisy = replace(data, disagreement=two_annotators(difference))
        assert values(events="points", data=noisy).get("model.heatmap.width") == width
    assert "model.heatmap.width" not in values(events="segments", data=replace(data, disagreement=two_annotators(1.0)))
