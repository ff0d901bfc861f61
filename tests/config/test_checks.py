"""Contradictions between keys, and keys whose part does not exist yet."""

from __future__ import annotations

from typing import Any

import pytest

from eventide.config import Config
from eventide.config_checks import find_contradictions, find_unavailable
from eventide.config_schema import fields, section_class


def config_with(**values: Any) -> Config:
    """A configuration from `section__key` arguments; `model__backbone__key` for the backbone."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *sections, key = name.split("__")
        below = nested
        for section in sections:
            below = below.setdefault(section, {})
        below[key] = value
    return Config.model_validate(nested)


V2 = {"model__backbone_type": "convTransformerv2"}
SNAP, TBT = {"model__meta_arch": "SnapFormer"}, {"model__meta_arch": "TBTFormer"}

CONTRADICTIONS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "two lengths",
        {"dataset__max_seq_len": 100, "model__backbone__max_len": 200},
        "model.backbone.max_len",
        "is 200 but dataset.max_seq_len is 100",
    ),
    ("upsampling to nothing", {"dataset__force_upsampling": True}, "dataset.force_upsampling", "which is not given"),
    (
        "upsampling and down-sampling",
        {"dataset__force_upsampling": True, "dataset__max_seq_len": 192, "dataset__downsample_rate": 2},
        "dataset.downsample_rate",
        "sets the length",
    ),
    ("feature format", {"dataset__file_ext": ".mat"}, "dataset.file_ext", "must be one of .npy, .npz"),
    ("feature format without dot", {"dataset__file_ext": "npz"}, "dataset.file_ext", "did you mean .npz?"),
    ("no folder", {"dataset__feat_folder": []}, "dataset.feat_folder", "empty list"),
    ("stride 0", {"dataset__feat_stride": 0}, "dataset.feat_stride", "greater than 0, or -1"),
    ("stride below 0", {"dataset__feat_stride": -0.5}, "dataset.feat_stride", "got -0.5"),
    ("crop upside down", {"dataset__crop_ratio": (1.0, 0.9)}, "dataset.crop_ratio", "low <= high"),
    ("crop above 1", {"dataset__crop_ratio": (0.9, 1.1)}, "dataset.crop_ratio", "<= 1"),
    ("crop to nothing", {"dataset__crop_ratio": (0.0, 1.0)}, "dataset.crop_ratio", "0 < low"),
    ("threshold twice", {"tiou_thresholds": [0.5, 0.3, 0.5]}, "tiou_thresholds", "holds 0.5 twice"),
    ("threshold above 1", {"tiou_thresholds": [0.5, 5.0]}, "tiou_thresholds", "at most 1, got 5.0"),
    ("threshold 0", {"tiou_thresholds": [0.0]}, "tiou_thresholds", "greater than 0"),
    ("tolerance 0", {**SNAP, "tolerances": [0.0, 1.0]}, "tolerances", "all above 0, got [0.0, 1.0]"),
    ("negative tolerance", {**SNAP, "tolerances": [-0.5]}, "tolerances", "all above 0"),
    ("tolerance twice", {**SNAP, "tolerances": [0.5, 0.5]}, "tolerances", "must be rising numbers of seconds"),
    ("falling tolerances", {"tolerances": [1.0, 0.5]}, "tolerances", "must be rising numbers of seconds"),
    (
        "segments of SnapFormer",
        {**SNAP, "dataset__events": "segments"},
        "dataset.events",
        "is segments but model.meta_arch SnapFormer finds points; leave it out, or choose another model.meta_arch",
    ),
    (
        "points of LocPointTransformer",
        {"dataset__events": "points", "dataset__point_position": "start"},
        "dataset.events",
        "is points but model.meta_arch LocPointTransformer finds segments; leave it out, or choose model.meta_arch: Sn",
    ),
    ("points of TBTFormer", {**TBT, "dataset__events": "points"}, "dataset.events", "TBTFormer finds segments"),
    (
        "smaller micro-batches of a model in parts",
        {"train_cfg__strategy": "fsdp", "train_cfg__auto_microbatch": True},
        "train_cfg.auto_microbatch",
        "with strategy fsdp others must take part in every pass",
    ),
    (
        "a compiled model in parts",
        {"train_cfg__strategy": "fsdp", "train_cfg__compile": True},
        "train_cfg.compile",
        "is compiled block by block",
    ),
    (
        "position without points",
        {"dataset__point_position": "start"},
        "dataset.point_position",
        "LocPointTransformer finds segments; leave it out",
    ),
    (
        "width without heatmap",
        {"model__heatmap__width": 0.5},
        "model.heatmap.width",
        "belongs to model.meta_arch SnapFormer, not to LocPointTransformer; leave it out",
    ),
    ("widths without heatmap", {**TBT, "model__heatmap__width": {"a": 1.0}}, "model.heatmap.width", "not to TBTFormer"),
    (
        "weight without heatmap",
        {"model__heatmap__offset_weight": 2.0},
        "model.heatmap.offset_weight",
        "belongs to model.meta_arch SnapFormer",
    ),
    ("bins without TBTFormer", {"model__reg_max": 16}, "model.reg_max", "belongs to model.meta_arch TBTFormer, not to"),
    ("loss of bins without TBTFormer", {**SNAP, "model__dfl_weight": 0.25}, "model.dfl_weight", "not to SnapFormer"),
    ("streams in, one out", {"dataset__input_dim": [3, 4]}, "model.backbone.n_embd", "input_dim is a list and n_embd"),
    ("one in, streams out", {"model__backbone__n_embd": [8, 8]}, "model.backbone.n_embd", "n_embd is a list and"),
    (
        "two in, three out",
        {"dataset__input_dim": [3, 4], "model__backbone__n_embd": [8, 8, 8]},
        "model.backbone.n_embd",
        "has 3 entries but dataset.input_dim has 2",
    ),
    ("no stream", {"dataset__input_dim": []}, "dataset.input_dim", "empty list"),
    ("no embedding", {"model__backbone__n_embd": []}, "model.backbone.n_embd", "empty list"),
    ("no embedding convolution", {"model__backbone__arch": (0, 2, 5)}, "model.backbone.arch", "must equal"),
    ("heads", {"model__backbone__n_head": 5}, "model.backbone.n_head", "5 does not divide the 512 channels"),
    (
        "odd heads that turn",
        {**V2, "model__backbone__n_embd": 60, "model__backbone__n_head": 4},
        "model.backbone.n_head",
        "4 leaves 15 channels per head, and use_rope turns them in pairs",
    ),
    (
        "odd heads of several streams",
        {
            **V2,
            "dataset__input_dim": [3, 4],
            "model__backbone__n_embd": [10, 5],
            "model__backbone__n_head": 3,
            "model__backbone__use_rope": True,
        },
        "model.backbone.n_head",
        "set use_rope to false",
    ),
    (
        "key heads",
        {**V2, "model__backbone__n_kv_head": 3},
        "model.backbone.n_kv_head",
        "3 does not divide n_head (4); possible are 1, 2, 4",
    ),
    (
        "v2 key under v1",
        {"model__backbone__use_rope": False},
        "model.backbone.use_rope",
        "belongs to model.backbone_type",
    ),
    (
        "v2 key under conv",
        {"model__backbone_type": "conv", "model__backbone__n_hidden": 64},
        "model.backbone.n_hidden",
        "not to conv",
    ),
    (
        "v1 key under v2",
        {**V2, "model__backbone__use_rel_pe": True},
        "model.backbone.use_rel_pe",
        "not to convTransformerv2",
    ),
    (
        "positions under conv",
        {"model__backbone_type": "conv", "model__backbone__use_abs_pe": True},
        "model.backbone.use_abs_pe",
        "no effect",
    ),
    (
        "too few windows",
        {"model__backbone__mha_win_size": [9, 9]},
        "model.backbone.mha_win_size",
        "has 2 entries but arch [2, 2, 5] makes 6 levels",
    ),
    ("even window", {"model__backbone__mha_win_size": 8}, "model.backbone.mha_win_size", "got 8; use 9, which looks 4"),
    ("window 1", {"model__backbone__mha_win_size": 1}, "model.backbone.mha_win_size", "an odd number from 3, got 1"),
    ("window 0", {"model__backbone__mha_win_size": 0}, "model.backbone.mha_win_size", "-1 (full attention)"),
    (
        "published length",
        {"model__backbone__padding": "published", "model__backbone__mha_win_size": 9, "dataset__max_seq_len": 192},
        "dataset.max_seq_len",
        "192 is not divisible by 128 (stride 16, window 9), as padding: published needs; use 256",
    ),
    (
        "published length, full attention",
        {"model__backbone__padding": "published", "dataset__max_seq_len": 100},
        "dataset.max_seq_len",
        "100 is not divisible by 8",
    ),
    ("start above the pyramid", {"model__fpn_start_level": 6}, "model.fpn_start_level", "levels 0 to 5"),
    ("identity neck", {"model__fpn_dim": 256}, "model.fpn_dim", "keeps the 512 channels of n_embd; set it to 512"),
    ("odd scale", {"model__backbone__scale_factor": 3}, "model.backbone.scale_factor", "must be even"),
    (
        "ranges",
        {"model__regression_range": [(0, 4), (4, 8)]},
        "model.regression_range",
        "has 2 rows for 6 pyramid levels",
    ),
    (
        "ranges of a later start",
        {"model__fpn_start_level": 4, "model__regression_range": [(0, 4), (4, 8), (8, 9)]},
        "model.regression_range",
        "has 3 rows for 2 pyramid levels",
    ),
    (
        "range upside down",
        {"model__backbone__arch": (2, 2, 1), "model__regression_range": [(4, 0), (4, 10000)]},
        "model.regression_range",
        "low < high, got [4, 0]",
    ),
    ("even embedding kernel", {"model__backbone__embd_kernel_size": 4}, "model.backbone.embd_kernel_size", "use 5"),
    ("even head kernel", {"model__head_kernel_size": 2}, "model.head_kernel_size", "must be odd"),
    ("empty class outside", {"train_cfg__head_empty_cls": [1]}, "train_cfg.head_empty_cls", "allows 0 to 0"),
    ("empty class below 0", {"train_cfg__head_empty_cls": [-1]}, "train_cfg.head_empty_cls", "names label id -1"),
    ("every class empty", {"train_cfg__head_empty_cls": [0]}, "train_cfg.head_empty_cls", "names every class"),
    ("steps of a cosine", {"opt__schedule_steps": [3]}, "opt.schedule_steps", "belongs to schedule_type multistep"),
    (
        "falling steps",
        {"opt__schedule_type": "multistep", "opt__schedule_steps": [5, 3]},
        "opt.schedule_steps",
        "rising numbers",
    ),
    (
        "step 0",
        {"opt__schedule_type": "multistep", "opt__schedule_steps": [0]},
        "opt.schedule_steps",
        "rising numbers from 1",
    ),
    (
        "step at the end",
        {"opt__schedule_type": "multistep", "opt__schedule_steps": [30]},
        "opt.schedule_steps",
        "training ends after opt.epochs 30",
    ),
    (
        "lengths of fixed batches",
        {"loader__batching": "fixed", "loader__num_lengths": 8},
        "loader.num_lengths",
        "pads everything to dataset.max_seq_len",
    ),
    (
        "smoothing of overlaps",
        {"train_cfg__cls_loss": "quality_focal", "train_cfg__label_smoothing": 0.1},
        "train_cfg.label_smoothing",
        "targets are soft already",
    ),
    *(
        (
            f"{value} of points",
            {"model__meta_arch": "SnapFormer", key: value},
            key.replace("__", "."),
            "is for segments",
        )
        for key, value in (("train_cfg__cls_loss", "quality_focal"), ("train_cfg__reg_loss", "giou"))
    ),
    ("warm-up of no epochs", {"opt__warmup_epochs": 0}, "opt.warmup_epochs", "opt.warmup: false"),
    ("pickled scores", {"test_cfg__ext_score_file": "a.PKL"}, "test_cfg.ext_score_file", "convert it to .json or .npz"),
    ("scores in a table", {"test_cfg__ext_score_file": "a.csv"}, "test_cfg.ext_score_file", "must be a .json or .npz"),
    (
        "overlap",
        {"test_cfg__chunk": {"length": 8, "overlap": 8}},
        "test_cfg.chunk.overlap",
        "must be less than test_cfg.chunk.length (8)",
    ),
]

WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "two kinds of position",
        {**V2, "model__backbone__use_abs_pe": True},
        "model.backbone.use_abs_pe",
        "positions twice",
    ),
    ("bias without windows", {"model__backbone__use_rel_pe": True}, "model.backbone.use_rel_pe", "no effect"),
    (
        "gap between ranges",
        {"model__backbone__arch": (2, 2, 1), "model__regression_range": [(0, 4), (6, 10000)]},
        "model.regression_range",
        "leaves out distances from 4 to 6",
    ),
]

CONSISTENT: list[tuple[str, dict[str, Any]]] = [
    ("convolutions care for no heads", {"model__backbone_type": "conv", "model__backbone__n_head": 5}),
    ("files that cover their recording", {"dataset__feat_stride": -1}),
    ("defaults", {}),
    ("two equal lengths", {"dataset__max_seq_len": 100, "model__backbone__max_len": 100}),
    ("upsampling", {"dataset__force_upsampling": True, "dataset__max_seq_len": 192}),
    ("upsampling to max_len", {"dataset__force_upsampling": True, "model__backbone__max_len": 192}),
    ("points", {**SNAP, "dataset__events": "points", "dataset__point_position": "end", "tolerances": [0.1, 2.0]}),
    ("heatmap", {**SNAP, "model__heatmap__width": "duration", "model__heatmap__offset_weight": 0.0}),
    ("uncertain boundaries", {**TBT, "dataset__events": "segments", "model__reg_max": 8, "model__dfl_weight": 0.0}),
    ("tolerances of another architecture", {"tolerances": [2.0]}),
    ("whole crop", {"dataset__crop_ratio": (1.0, 1.0)}),
    ("streams", {"dataset__input_dim": [3, 4], "model__backbone__n_embd": [8, 16]}),
    ("no embedding convolution", {"dataset__input_dim": 512, "model__backbone__arch": (0, 2, 5)}),
    (
        "streams without embedding convolution",
        {"dataset__input_dim": [3, 4], "model__backbone__n_embd": [8, 16], "model__backbone__arch": (0, 2, 5)},
    ),
    (
        "windows that divide nothing",
        {"model__backbone__mha_win_size": [9, 9, 9, 9, 9, -1], "dataset__max_seq_len": 192},
    ),
    ("v1 baseline", {"model__backbone__use_abs_pe": True}),
    ("rope off, table on", {**V2, "model__backbone__use_abs_pe": True, "model__backbone__use_rope": False}),
    (
        "published",
        {"model__backbone__padding": "published", "model__backbone__mha_win_size": 19, "dataset__max_seq_len": 2304},
    ),
    ("pyramid neck of another width", {"model__fpn_type": "fpn", "model__fpn_dim": 256}),
    ("cross-scale neck of another width", {"model__fpn_type": "cs_fpn", "model__fpn_dim": 256}),
    ("other losses", {"train_cfg__cls_loss": "quality_focal", "train_cfg__reg_loss": "eiou"}),
    ("overlapping ranges", {"model__backbone__arch": (2, 2, 1), "model__regression_range": [(0, 4), (2, 10000)]}),
    ("multistep without steps", {"opt__schedule_type": "multistep"}),
    ("last step before the end", {"opt__schedule_type": "multistep", "opt__schedule_steps": [10, 29]}),
    ("no warm-up", {"opt__warmup": False, "opt__warmup_epochs": 0}),
    ("a few lengths", {"loader__batching": "bucketed", "loader__num_lengths": 8}),
    ("one empty class", {"dataset__num_classes": 2, "train_cfg__head_empty_cls": [1]}),
]


@pytest.mark.parametrize(
    ("label", "values", "key", "message"), CONTRADICTIONS, ids=[case[0] for case in CONTRADICTIONS]
)
def test_contradictions(label: str, values: dict[str, Any], key: str, message: str) -> None:
    found = [finding for finding in find_contradictions(config_with(**values)) if not finding.warning]
    assert [finding.keys[0] for finding in found] == [key]
    assert message in found[0].message


@pytest.mark.parametrize(("label", "values", "key", "message"), WARNINGS, ids=[case[0] for case in WARNINGS])
def test_warnings(label: str, values: dict[str, Any], key: str, message: str) -> None:
    found = find_contradictions(config_with(**values))
    assert [(finding.keys[0], finding.warning) for finding in found] == [(key, True)]
    assert message in found[0].message


@pytest.mark.parametrize(("label", "values"), CONSISTENT, ids=[case[0] for case in CONSISTENT])
def test_consistent(label: str, values: dict[str, Any]) -> None:
    assert find_contradictions(config_with(**values)) == []


def test_keys_of_findings_exist() -> None:
    names = {".".join(path) for path in fields()}
    for _, values, _, _ in CONTRADICTIONS + WARNINGS:
        for finding in find_contradictions(config_with(**values)):
            assert set(finding.keys) <= names


UNAVAILABLE: list[tuple[str, Any]] = [
    ("opt__early_stop_epochs", 3),
]


@pytest.mark.parametrize(("name", "value"), UNAVAILABLE, ids=[f"{name}={value}" for name, value in UNAVAILABLE])
def test_parts_that_do_not_exist_yet_are_refused(name: str, value: Any) -> None:
    found = find_unavailable(config_with(**{name: value}))
    assert [finding.keys for finding in found] == [(name.replace("__", "."),)]
    assert "not available yet" in found[0].message


def test_defaults_need_nothing_that_does_not_exist() -> None:
    assert find_unavailable(Config()) == []


def test_every_key_marked_as_later_is_in_the_table_above() -> None:
    marked = {
        "__".join(path)
        for path, field in fields().items()
        if isinstance(field.json_schema_extra, dict) and section_class(field.annotation) is None
    }
    assert {name for name, _ in UNAVAILABLE} == marked
