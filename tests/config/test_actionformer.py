"""ActionFormer's flat files: the settings of every published experiment load, and mean what they mean there.

The tables hold settings of the published experiments (facts of the experiments, written anew).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventide.config import Config
from eventide.config_actionformer import ALIASES, DEFAULTS, TIOU_THRESHOLDS, TRANSLATION, flat_mark
from eventide.config_loading import config_to_yaml, load_config, load_config_with_origins
from eventide.config_schema import fields
from eventide.config_yaml import ConfigError

FEW = [[0, 4], [2, 8], [4, 16], [8, 32], [16, 64], [32, 10000]]
MANY = [*FEW[:5], [32, 128], [64, 256], [128, 10000]]


def anet(dim: int, fps: float) -> dict[str, Any]:
    return {
        "dataset_name": "anet",
        "dataset": {
            "json_file": "anet.json",
            "feat_folder": "tsp",
            "file_prefix": "v_",
            "file_ext": ".npy",
            "num_classes": 1,
            "input_dim": dim,
            "feat_stride": 16,
            "num_frames": 16,
            "default_fps": fps,
            "trunc_thresh": 0.5,
            "crop_ratio": [0.9, 1.0],
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
        "opt": {"learning_rate": 1e-3, "epochs": 10, "weight_decay": 0.05},
        "loader": {"batch_size": 16},
        "train_cfg": {"init_loss_norm": 200, "clip_grad_l2norm": 1.0, "label_smoothing": 0.1, "loss_weight": 2.0},
        "test_cfg": {
            "voting_thresh": 0.9,
            "pre_nms_topk": 2000,
            "max_seg_num": 100,
            "min_score": 0.001,
            "multiclass_nms": False,
            "nms_sigma": 0.75,
            "ext_score_file": "cuhk.json",
            "duration_thresh": 0.001,
        },
    }


def ego4d(
    dims: Any, folders: Any, embd: Any = None, heads: int | None = None, frames: int = 32, blocks: int = 7
) -> dict[str, Any]:
    width = {} if embd is None else {"embd_dim": embd, "fpn_dim": _total(embd), "head_dim": _total(embd)}
    ranges = MANY if blocks == 7 else [*MANY[:6], [64, 10000]]
    return {
        "dataset_name": "ego4d",
        "dataset": {
            "json_file": "ego4d.json",
            "feat_folder": folders,
            "file_prefix": None,
            "num_classes": 110,
            "input_dim": dims,
            "feat_stride": 16,
            "num_frames": frames,
            "default_fps": 30,
            "trunc_thresh": 0.3,
            "crop_ratio": [0.9, 1.0],
            "max_seq_len": 1024,
            "file_ext": ".npy",
        },
        "model": {
            "regression_range": ranges,
            "backbone_arch": [2, 2, blocks],
            "max_buffer_len_factor": 4.0,
            "n_mha_win_size": 9,
            "use_abs_pe": True,
            **width,
            **({"n_head": heads} if heads else {}),
        },
        "opt": {"learning_rate": 1e-4, "epochs": 10, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 100, "clip_grad_l2norm": 1.0, "dropout": 0.1, "droppath": 0.1},
        "test_cfg": {
            "pre_nms_topk": 5000,
            "max_seg_num": 2000,
            "min_score": 0.001,
            "nms_sigma": 0.9,
            "voting_thresh": 0.95,
        },
    }


def epic(classes: int, **train: Any) -> dict[str, Any]:
    return {
        "dataset_name": "epic",
        "dataset": {
            "json_file": "epic.json",
            "feat_folder": "f",
            "file_prefix": None,
            "file_ext": ".npz",
            "num_classes": classes,
            "input_dim": 2304,
            "feat_stride": 16,
            "num_frames": 32,
            "default_fps": 30,
            "trunc_thresh": 0.3,
            "crop_ratio": [0.9, 1.0],
            "max_seq_len": 2304,
        },
        "model": {"regression_range": FEW, "max_buffer_len_factor": 4.0, "n_mha_win_size": 9},
        "opt": {"learning_rate": 1e-4, "epochs": 16, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 250, "clip_grad_l2norm": 1.0, **train},
        "test_cfg": {"pre_nms_topk": 5000, "max_seg_num": 2000, "min_score": 0.001, "nms_sigma": 0.4},
    }


def thumos() -> dict[str, Any]:
    return {
        "dataset_name": "thumos",
        "train_split": ["validation"],
        "val_split": ["test"],
        "dataset": {
            "json_file": "thumos14.json",
            "feat_folder": "i3d",
            "file_prefix": None,
            "file_ext": ".npy",
            "num_classes": 20,
            "input_dim": 2048,
            "feat_stride": 4,
            "num_frames": 16,
            "trunc_thresh": 0.5,
            "crop_ratio": [0.9, 1.0],
            "max_seq_len": 2304,
        },
        "model": {"fpn_type": "identity", "max_buffer_len_factor": 6.0, "n_mha_win_size": 19},
        "opt": {"learning_rate": 1e-4, "epochs": 30, "weight_decay": 0.05},
        "loader": {"batch_size": 2},
        "train_cfg": {"init_loss_norm": 100, "clip_grad_l2norm": 1.0, "cls_prior_prob": 0.01},
        "test_cfg": {"voting_thresh": 0.7, "pre_nms_topk": 2000, "max_seg_num": 200, "min_score": 0.001},
    }


def _total(channels: Any) -> int:
    return sum(channels) if isinstance(channels, list) else channels


PUBLISHED: dict[str, dict[str, Any]] = {
    "thumos_i3d": thumos(),
    "anet_tsp": anet(512, 15),
    "anet_i3d": anet(2048, 25),
    "epic_slowfast_verb": epic(97),
    "epic_slowfast_noun": epic(300, label_smoothing=0.1),
    "ego4d_slowfast": ego4d(2304, "s", blocks=6),
    "ego4d_omnivore": ego4d(1536, "o"),
    "ego4d_egovlp": ego4d(256, "e", 384, frames=16),
    "ego4d_slowfast_egovlp": ego4d(2560, ["s", "e"], 768, 12),
    "ego4d_omnivore_egovlp": ego4d(1792, ["o", "e"], 768, 12),
    "ego4d_slowfast_omnivore_egovlp": ego4d([2304, 1536, 256], ["s", "o", "e"], [256, 384, 384], 16),
}
THRESHOLDS = {"thumos": (0.3, 0.7, 5), "anet": (0.5, 0.95, 10), "epic": (0.1, 0.5, 5), "ego4d": (0.1, 0.5, 5)}


def load(folder: Path, values: dict[str, Any], *overrides: str) -> Config:
    path = folder / "flat.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return load_config(path, overrides)


def problems_of(folder: Path, values: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, values, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_experiments(tmp_path: Path, name: str) -> None:
    flat = PUBLISHED[name]
    config = load(tmp_path, flat)
    for section in ("dataset", "opt", "loader", "train_cfg", "test_cfg"):
        for key, value in flat[section].items():
            found = getattr(getattr(config, section), key)
            if key == "file_prefix":
                value = value or ""
            assert (list(found) if isinstance(found, tuple) else found) == value, key
    model, backbone, levels = flat["model"], config.model.backbone, backbone_levels(flat)
    windows = model["n_mha_win_size"]
    assert backbone.mha_win_size == (windows if isinstance(windows, list) else [windows] * levels)
    assert backbone.n_embd == model.get("embd_dim", 512)
    assert config.model.fpn_dim == config.model.head_dim == _total(model.get("embd_dim", 512))
    assert backbone.n_head == model.get("n_head", 4)
    assert backbone.use_abs_pe is model.get("use_abs_pe", False)
    assert len(config.model.regression_range or ()) == levels
    low, high, count = THRESHOLDS[flat["dataset_name"]]
    steps = [low + (high - low) * index / (count - 1) for index in range(count)]
    assert config.tiou_thresholds == pytest.approx(steps)


def backbone_levels(flat: dict[str, Any]) -> int:
    return flat["model"].get("backbone_arch", [2, 2, 5])[2] + 1


def test_what_the_published_code_does_whatever_the_file_says(tmp_path: Path) -> None:
    config = load(tmp_path, thumos())
    assert config.model.backbone.padding == "published"
    assert config.loader.drop_last is True
    assert (config.train_cfg.ema_ramp, config.train_cfg.ema_decay) == (False, 0.999)
    assert config.train_cfg.loss_norm_momentum == 0.9
    assert config.device == "auto"


def test_a_translated_file_survives_a_round_trip(tmp_path: Path) -> None:
    config = load(tmp_path, PUBLISHED["ego4d_slowfast_omnivore_egovlp"])
    path = tmp_path / "written.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    assert load_config(path) == config


def test_missing_keys_take_the_published_defaults(tmp_path: Path) -> None:
    """Also where they differ from this project's own (the keys of `actionformer_defaults.yaml`)."""
    config = load(tmp_path, {"model_name": "LocPointTransformer"})
    assert (config.loader.batch_size, config.opt.learning_rate, config.opt.weight_decay) == (8, 1e-3, 0.0)
    assert (config.test_cfg.pre_nms_topk, config.test_cfg.min_score, config.test_cfg.max_seg_num) == (5000, 0.01, 1000)
    assert (config.train_cfg.init_loss_norm, config.train_cfg.clip_grad_l2norm) == (2000, -1)
    assert (config.dataset_name, config.dataset.num_classes, config.tiou_thresholds[0]) == ("epic", 97, 0.1)


def test_defaults_equal_the_published_ones(shared_dir: Path) -> None:
    text = (shared_dir / "reference" / "actionformer_defaults.yaml").read_text(encoding="utf-8")
    ours: dict[str, Any] = {}
    for name, target in TRANSLATION.items():
        found: Any = DEFAULTS
        for part in target.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            ours[name] = found
    for name, value in _flattened(yaml.safe_load(text)).items():
        if value is not None and name not in ("devices", "model.max_buffer_len_factor"):
            assert ours[name] == value, name


def _flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in values.items():
        found |= _flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@pytest.mark.parametrize(
    "case", ["anet_like", "conv_backbone", "ego4d_like", "epic_like", "fpn_full_relpe", "thumos_like", "two_streams"]
)
def test_reference_cases_load(shared_dir: Path, case: str) -> None:
    config = load_config(shared_dir / "reference" / case / "config.yaml")
    assert config.model.backbone.padding == "published"


def test_translations_name_keys_of_the_schema() -> None:
    for name, target in TRANSLATION.items():
        assert tuple(target.split(".")) in fields(), name


@pytest.mark.parametrize(
    ("label", "window", "ours"),
    [
        ("odd", 9, 9),
        ("even looks as far to both sides as the next odd one", 8, 9),
        ("1 is full attention", 1, -1),
        ("0 is full attention", 0, -1),
    ],
)
def test_windows(tmp_path: Path, label: str, window: int, ours: int) -> None:
    flat = thumos()
    flat["model"]["n_mha_win_size"] = window
    assert load(tmp_path, flat).model.backbone.mha_win_size == [ours] * 6


@pytest.mark.parametrize(
    ("devices", "device"),
    [(["cuda:0"], "cuda:0"), (["cuda:1", "cuda:2"], "cuda:1"), ([0], "cuda:0"), (["cpu"], "cpu"), ("cpu", "cpu")],
)
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "nested"])
def test_devices_list_is_read_with_a_notice(tmp_path: Path, devices: Any, device: str, flat: bool) -> None:
    path = tmp_path / "c.yaml"
    values = {**thumos(), "devices": devices} if flat else {"devices": devices}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    loaded = load_config_with_origins(path)
    assert loaded.config.device == device
    assert f"read as `device: {device}`" in loaded.notices[0]
    assert ("several devices" in loaded.notices[0]) == (isinstance(devices, list) and len(devices) > 1)


@pytest.mark.parametrize(
    ("label", "change", "message"),
    [
        (
            "misspelt",
            {"opt": {"learing_rate": 1}},
            "flat.yaml:2: opt.learing_rate: unknown key, did you mean opt.learning_rate?",
        ),
        ("misspelt in the model", {"model": {"n_mha_win_sizes": 9}}, "did you mean model.n_mha_win_size?"),
        ("ours in theirs", {"model": {"head_dims": 9}}, "did you mean model.head_dim?"),
        ("unknown", {"zzz": 1}, "zzz: unknown key (the file is read as ActionFormer's flat form, because of"),
        ("section is a number", {"opt": 3}, "opt: must be a section of keys"),
        ("pickle", {"test_cfg": {"ext_score_file": "scores.pkl"}}, "convert it to .json or .npz"),
        ("wrong type", {"dataset": {"num_classes": "many"}}, "dataset.num_classes: must be a whole number"),
        ("wrong type of a renamed key", {"model": {"embd_dim": "x"}}, "model.backbone.n_embd: must be a whole number"),
        ("length", {"dataset": {"max_seq_len": 1000}}, "is not divisible by"),
        ("early stop", {"opt": {"early_stop_epochs": 3}}, "opt.early_stop_epochs: not available yet"),
        ("unknown architecture", {"model_name": "Snap"}, "model.meta_arch: must be one of LocPointTransformer, Snap"),
        ("no devices", {"devices": []}, "device: must be one of auto"),
    ],
)
def test_wrong_flat_files(tmp_path: Path, label: str, change: dict[str, Any], message: str) -> None:
    flat = {**change, **{key: value for key, value in copy.deepcopy(thumos()).items() if key not in change}}
    flat.setdefault("model", {}).setdefault("n_mha_win_size", 19)
    assert message in problems_of(tmp_path, flat)


def test_lines_of_renamed_keys_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("dataset_name: thumos\nmodel:\n  n_mha_win_size: 19\n  n_head: 7\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml:4: model\.backbone\.n_head: 7 does not divide"):
        load_config(path)


def test_a_nested_file_may_inherit_from_a_flat_one(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(thumos()), encoding="utf-8")
    path = tmp_path / "c.yaml"
    path.write_text("base: flat.yaml\nmodel: {backbone: {padding: own}}\nopt: {epochs: 3}", encoding="utf-8")
    config = load_config(path)
    assert (config.model.backbone.padding, config.opt.epochs) == ("own", 3)
    assert (config.model.backbone.mha_win_size, config.test_cfg.voting_thresh) == ([19] * 6, 0.7)


def test_a_flat_file_may_inherit_from_a_flat_one_whose_values_beat_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(thumos()), encoding="utf-8")
    path = tmp_path / "c.yaml"
    path.write_text("base: flat.yaml\nmodel: {n_mha_win_size: 9}", encoding="utf-8")
    config = load_config(path)
    assert config.model.backbone.mha_win_size == [9] * 6
    assert (config.loader.batch_size, config.dataset.input_dim) == (2, 2048)


def test_overrides_use_our_names(tmp_path: Path) -> None:
    assert load(tmp_path, thumos(), "model.backbone.n_head=8").model.backbone.n_head == 8


@pytest.mark.parametrize(
    ("values", "mark"),
    [
        ({"model": {"n_mha_win_size": 9}}, "model.n_mha_win_size"),
        ({"model_name": "x"}, "model_name"),
        ({"init_rand_seed": 1, "model": None}, "init_rand_seed"),
        ({"model": {"n_head": 8}}, ""),
        ({"model": {"embd_dim": 8, "backbone": {}}}, ""),
        ({"devices": ["cuda:0"]}, ""),
        ({"model": "x"}, ""),
        ({}, ""),
    ],
)
def test_how_a_flat_file_is_known(values: dict[str, Any], mark: str) -> None:
    assert flat_mark(values) == mark


def test_the_documented_translation_is_complete() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, target in ALIASES.items():
        assert f"| `{name}` | `{target}`" in text, name
    for name in TIOU_THRESHOLDS:
        assert f"`{name}`" in text, name
