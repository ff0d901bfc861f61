"""The files of the use cases and of backbone v2 say what the guide says, on the data settings of their base file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eventide.config_loading import load_config, load_config_with_origins
from tests.config.flat import flat
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "configs"
V2 = "backbone_type: convTransformerv2"
ALL = "use_rope: true, use_flash_attn: true, use_swiglu: true, use_rms_norm: true"

USE_CASES = {  # the guide's keys, all of them
    "quick_prototyping": "model: {backbone_type: convTransformer}",
    "production": f"model: {{{V2}, backbone: {{{ALL}}}}}",
    "limited_memory": (
        f"model: {{{V2}, backbone: {{use_flash_attn: true, use_rope: true, use_swiglu: false, use_rms_norm: true}}}}\n"
        "loader: {batch_size: 1}"
    ),
    "long_video": (
        f"model: {{{V2}, backbone: {{max_len: 8192, use_rope: true, use_flash_attn: true, use_rms_norm: true,"
        " use_abs_pe: false}}"
    ),
    "deployment": (
        f"model: {{{V2}, backbone: {{n_kv_head: 2, use_rope: true, use_flash_attn: true, use_swiglu: false,"
        " use_rms_norm: true}}"
    ),
    "ablation_a": "model: {backbone_type: convTransformer, backbone: {use_abs_pe: true}}",
    "ablation_b": (
        f"model: {{{V2}, backbone: {{use_flash_attn: true, use_rope: false, use_swiglu: false, use_rms_norm: false,"
        " use_abs_pe: true}}"
    ),
    "ablation_c": (
        f"model: {{{V2}, backbone: {{use_flash_attn: false, use_rope: true, use_swiglu: false, use_rms_norm: false,"
        " use_abs_pe: false}}"
    ),
    "ablation_d": f"model: {{{V2}, backbone: {{{ALL}}}}}",
    "point_events": (
        f"model: {{meta_arch: SnapFormer, fpn_type: cs_fpn, {V2}, backbone: {{use_rope: true, use_flash_attn: true}}}}"
    ),
    "noisy_labels": (
        f"model: {{meta_arch: TBTFormer, fpn_type: cs_fpn, reg_max: 16, dfl_weight: 0.25, {V2},"
        " backbone: {n_head: 16, use_rope: true, use_flash_attn: true}}"
    ),
}
# What a file needs beside the guide's keys, because of its base file.
ADDED: dict[str, dict[str, Any]] = {"long_video": {"dataset": {"max_seq_len": None}}}
# Keys that a use case may change beside those of the backbone.
CHANGED: dict[str, set[str]] = {
    "long_video": {"dataset.max_seq_len"},
    "point_events": {"dataset.events", "model.meta_arch", "model.fpn_type"},
    "noisy_labels": {
        "model.meta_arch",
        "model.fpn_type",
        "model.reg_max",
        "model.dfl_weight",
        "model.target_width",
        "train_cfg.teacher_share",
    },
}

DATA_SETS = {  # prefix of the files: the guide's keys of model.backbone
    "thumos_": f"{{n_embd: 256, n_head: 4, arch: [2, 2, 5], mha_win_size: [-1, -1, -1, -1, -1, -1], {ALL}}}",
    "anet_": f"{{n_embd: 256, n_head: 4, arch: [2, 2, 5], mha_win_size: [9, 9, 9, 9, 9, -1], {ALL}}}",
    "epic_": f"{{n_embd: 384, n_head: 6, arch: [2, 2, 6], {ALL}}}",
    "ego4d_": f"{{n_embd: 768, n_head: 12, arch: [2, 2, 7], max_len: 4096, {ALL}}}",
}
V2_FILES = sorted(path.stem for path in FOLDER.glob("*_v2.yaml") if path.stem.startswith(tuple(DATA_SETS)))
SPLIT_WIDTHS = {"ego4d_slowfast_omnivore_egovlp_v2": [192, 288, 288]}  # the guide's 768, one number per stream


def written(name: str) -> dict[str, Any]:
    """What a file of configs/ says itself."""
    return dict(yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def test_every_use_case_has_its_file() -> None:
    assert {path.stem for path in (FOLDER / "use_cases").glob("*.yaml")} >= set(USE_CASES)


@pytest.mark.parametrize("name", USE_CASES)
def test_use_cases_say_what_the_guide_says(name: str) -> None:
    values = written(f"use_cases/{name}")
    assert values.pop("base") == "../thumos_i3d.yaml"
    assert values == {**yaml.safe_load(USE_CASES[name]), **ADDED.get(name, {})}


@pytest.mark.parametrize("name", USE_CASES)
def test_use_cases_have_the_data_of_thumos(name: str) -> None:
    ours, base = load_config(FOLDER / "use_cases" / f"{name}.yaml"), load_config(FOLDER / "thumos_i3d.yaml")
    changed = {key for key, value in flat(ours).items() if flat(base)[key] != value}
    allowed = {"loader.batch_size"} | CHANGED.get(name, set())
    assert {key for key in changed if not key.startswith("model.backbone")} <= allowed
    assert ours.dataset.max_seq_len == ours.model.backbone.max_len == (8192 if name == "long_video" else 2304)


def test_every_data_set_has_both_backbones() -> None:
    one = {path.stem for path in FOLDER.glob("*.yaml") if path.stem.startswith(tuple(DATA_SETS))}
    assert {name.removesuffix("_v2") for name in V2_FILES} == {name for name in one if not name.endswith("_v2")}
    assert len(V2_FILES) == 11


@pytest.mark.parametrize("name", V2_FILES)
def test_v2_files_say_what_the_guide_says(name: str) -> None:
    values = written(name)
    wanted = yaml.safe_load(next(text for prefix, text in DATA_SETS.items() if name.startswith(prefix)))
    if name in SPLIT_WIDTHS:
        assert sum(SPLIT_WIDTHS[name]) == wanted["n_embd"]
        wanted["n_embd"] = SPLIT_WIDTHS[name]
    backbone = values["model"]["backbone"]
    assert values["base"] == f"{name.removesuffix('_v2')}.yaml"
    assert {key: backbone.get(key) for key in wanted} == wanted
    assert set(backbone) - set(wanted) <= {"use_abs_pe"}
    assert load_config(FOLDER / f"{name}.yaml").model.backbone.use_abs_pe is False


@pytest.mark.parametrize("name", V2_FILES)
def test_v2_files_have_the_data_and_training_of_their_base(name: str) -> None:
    ours, base = load_config(FOLDER / f"{name}.yaml"), load_config(FOLDER / f"{name.removesuffix('_v2')}.yaml")
    changed = {key for key, value in flat(ours).items() if flat(base)[key] != value}
    longer = {"dataset.max_seq_len"} if name.startswith("ego4d_") else set()
    rest = {key for key in changed if not key.startswith("model.")}
    assert rest == longer
    assert ours.model.meta_arch == base.model.meta_arch
    ranges, published = ours.model.regression_range or [], base.model.regression_range or []
    shared = min(len(ranges), len(published)) - 1  # one level more splits the open range of the last one
    assert ranges[:shared] == published[:shared]
    assert ranges[-1][1] == published[-1][1]


@pytest.mark.parametrize("name", USE_CASES)
def test_the_guide_can_be_copied(tmp_path: Path, name: str) -> None:
    """What the guide prints is a configuration as it stands, without a notice."""
    (tmp_path / "c.yaml").write_text(USE_CASES[name], encoding="utf-8")
    loaded = load_config_with_origins(tmp_path / "c.yaml")
    assert loaded.notices == []
    assert loaded.config.dataset.events == ("points" if name == "point_events" else "segments")
