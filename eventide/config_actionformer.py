"""ActionFormer's flat YAML files, translated key by key to the schema. `docs/configuration.md` shows this table."""

from __future__ import annotations

import difflib
from typing import Any

from eventide.config_yaml import Document, Key, Origin, Problem

_SAME = {  # sections and keys whose names and meaning are the same in both
    "": ("dataset_name", "train_split", "val_split", "output_folder", "device"),
    "dataset": (
        *("json_file", "feat_folder", "file_prefix", "file_ext", "num_classes", "input_dim", "feat_stride"),
        *("num_frames", "default_fps", "downsample_rate", "max_seq_len", "trunc_thresh", "crop_ratio"),
        "force_upsampling",
    ),
    "loader": ("batch_size", "num_workers"),
    "model": (
        *("backbone_type", "fpn_type", "fpn_dim", "fpn_with_ln", "fpn_start_level", "head_dim", "head_kernel_size"),
        *("head_num_layers", "head_with_ln", "regression_range"),
    ),
    "train_cfg": (
        *("center_sample", "center_sample_radius", "loss_weight", "cls_prior_prob", "init_loss_norm"),
        *("clip_grad_l2norm", "head_empty_cls", "dropout", "droppath", "label_smoothing"),
    ),
    "test_cfg": (
        *("pre_nms_thresh", "pre_nms_topk", "iou_threshold", "min_score", "max_seg_num", "nms_method", "nms_sigma"),
        *("duration_thresh", "multiclass_nms", "ext_score_file", "voting_thresh"),
    ),
    "opt": (
        *("type", "learning_rate", "momentum", "weight_decay", "epochs", "warmup", "warmup_epochs", "schedule_type"),
        *("schedule_steps", "schedule_gamma", "early_stop_epochs"),
    ),
}
_RENAMED = {
    "init_rand_seed": "seed",
    "model_name": "model.meta_arch",
    "model.backbone_arch": "model.backbone.arch",
    "model.n_head": "model.backbone.n_head",
    "model.n_mha_win_size": "model.backbone.mha_win_size",
    "model.embd_dim": "model.backbone.n_embd",
    "model.embd_kernel_size": "model.backbone.embd_kernel_size",
    "model.embd_with_ln": "model.backbone.embd_with_ln",
    "model.scale_factor": "model.backbone.scale_factor",
    "model.use_abs_pe": "model.backbone.use_abs_pe",
    "model.use_rel_pe": "model.backbone.use_rel_pe",
}
_DEVICES, _UNUSED, _BASE = "devices", "model.max_buffer_len_factor", "base"

# ActionFormer's key -> ours; also the hints for its names in other files.
TRANSLATION: dict[str, str] = {
    **{f"{section}.{key}" if section else key: f"{section}.{key}" if section else key
       for section, keys in _SAME.items() for key in keys},
    **_RENAMED,
}  # fmt: skip
ALIASES = {**_RENAMED, _DEVICES: "device"}
_MARKS = ("init_rand_seed", "model_name")
_MODEL_MARKS = ("backbone_arch", "n_mha_win_size", "embd_dim", "max_buffer_len_factor")

# What ActionFormer takes for keys that a file leaves out, and what its code does whatever the file says.
DEFAULTS: dict[str, Any] = {
    "seed": 1234567891,
    "dataset_name": "epic",
    "train_split": ["training"],
    "val_split": ["validation"],
    "dataset": {
        "feat_stride": 16,
        "num_frames": 32,
        "default_fps": None,
        "input_dim": 2304,
        "num_classes": 97,
        "downsample_rate": 1,
        "max_seq_len": 2304,
        "trunc_thresh": 0.5,
        "crop_ratio": None,
        "force_upsampling": False,
    },
    "loader": {"batch_size": 8, "num_workers": 4, "drop_last": True},
    "model": {
        "meta_arch": "LocPointTransformer",
        "backbone_type": "convTransformer",
        "fpn_type": "identity",
        "backbone": {
            "arch": [2, 2, 5],
            "scale_factor": 2,
            "n_head": 4,
            "mha_win_size": -1,
            "embd_kernel_size": 3,
            "n_embd": 512,
            "embd_with_ln": True,
            "use_abs_pe": False,
            "use_rel_pe": False,
            "padding": "published",
        },
        "regression_range": [[0, 4], [4, 8], [8, 16], [16, 32], [32, 64], [64, 10000]],
        "fpn_dim": 512,
        "fpn_with_ln": True,
        "fpn_start_level": 0,
        "head_dim": 512,
        "head_kernel_size": 3,
        "head_num_layers": 3,
        "head_with_ln": True,
    },
    "train_cfg": {
        "center_sample": "radius",
        "center_sample_radius": 1.5,
        "loss_weight": 1.0,
        "cls_prior_prob": 0.01,
        "init_loss_norm": 2000,
        "loss_norm_momentum": 0.9,
        "clip_grad_l2norm": -1,
        "head_empty_cls": [],
        "dropout": 0.0,
        "droppath": 0.1,
        "label_smoothing": 0.0,
        "ema_decay": 0.999,
        "ema_ramp": False,
    },
    "test_cfg": {
        "pre_nms_thresh": 0.001,
        "pre_nms_topk": 5000,
        "iou_threshold": 0.1,
        "min_score": 0.01,
        "max_seg_num": 1000,
        "nms_method": "soft",
        "nms_sigma": 0.5,
        "duration_thresh": 0.05,
        "multiclass_nms": True,
        "ext_score_file": None,
        "ext_score_topk": 2,
        "voting_thresh": 0.75,
    },
    "opt": {
        "type": "AdamW",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "learning_rate": 1e-3,
        "epochs": 30,
        "warmup": True,
        "warmup_epochs": 5,
        "schedule_type": "cosine",
        "schedule_steps": [],
        "schedule_gamma": 0.1,
    },
}
TIOU_THRESHOLDS = {  # by ActionFormer's dataset_name; it knows no others
    "thumos": [0.3, 0.4, 0.5, 0.6, 0.7],
    "anet": [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
    "epic": [0.1, 0.2, 0.3, 0.4, 0.5],
    "ego4d": [0.1, 0.2, 0.3, 0.4, 0.5],
}


def flat_mark(values: dict[str, Any]) -> str:
    """The key by which a file is known to be ActionFormer's, empty where it is not one of its files."""
    model = values.get("model")
    model = model if isinstance(model, dict) else {}
    if "backbone" in model or "meta_arch" in model:
        return ""
    found = [name for name in _MARKS if name in values] + [f"model.{name}" for name in _MODEL_MARKS if name in model]
    return found[0] if found else ""


def read_devices(document: Document) -> list[str]:
    """Turn ActionFormer's `devices` list of a file, in either form, into `device`; returns notices for the user."""
    if _DEVICES not in document.values:
        return []
    devices, origin = document.values.pop(_DEVICES), document.origins[(_DEVICES,)]
    first = devices[0] if isinstance(devices, list) and devices else devices
    first = f"cuda:{first}" if isinstance(first, int) and not isinstance(first, bool) else first
    _put(document, ("device",), first, (_DEVICES,), document)
    more = "; for several devices start train_ddp.py" if isinstance(devices, list) and len(devices) > 1 else ""
    return [f"{origin.text}: devices: read as `device: {first}`{more}"]


def translate(flat: Document, mark: str) -> tuple[Document, list[Problem]]:
    """ActionFormer's file as a document of our schema, and what is wrong with it.

    `mark` is the key that showed what the file is. Defaults are not filled in: they go below the whole `base:` chain.
    """
    out, problems = Document(), []
    for key, value in _leaves(flat.values):
        name, origin = ".".join(key), flat.origins[key]
        if name in (_BASE, _UNUSED):
            continue
        if name in TRANSLATION:
            target, value = TRANSLATION[name], _value(name, value)
        elif name in _SAME and not value:
            continue  # a section with nothing in it
        elif name in _SAME:
            problems.append(Problem(origin.text, name, "must be a section of keys"))
            continue
        else:
            problems.append(Problem(origin.text, name, _unknown(name, mark)))
            continue
        _put(out, tuple(target.split(".")), value, key, flat)
    return out, problems


def defaults_for(values: dict[str, Any]) -> Document:
    """ActionFormer's defaults as a document; its thresholds follow the name of the data set in `values`."""
    document = Document()
    for key, value in _leaves(DEFAULTS):
        _put(document, key, list(value) if isinstance(value, list) else value, key, None)
    name = values.get("dataset_name", DEFAULTS["dataset_name"])
    if isinstance(name, str) and name in TIOU_THRESHOLDS:
        document.values["tiou_thresholds"] = list(TIOU_THRESHOLDS[name])
        document.origins[("tiou_thresholds",)] = Origin(f"ActionFormer's for dataset_name {name}")
    return document


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, value in values.items():
        below = isinstance(value, dict) and value and ".".join((*path, name)) not in TRANSLATION
        found += _leaves(value, (*path, name)) if below else [((*path, name), value)]
    return found


def _put(document: Document, target: tuple[str, ...], value: Any, source: Key, flat: Document | None) -> None:
    section = document.values
    for name in target[:-1]:
        section = section.setdefault(name, {})
    section[target[-1]] = value
    if flat is None:
        document.origins[target] = Origin("ActionFormer's default")
        return
    for key, origin in list(flat.origins.items()):
        if key[: len(source)] == source:
            document.origins[(*target, *key[len(source) :])] = origin


def _value(name: str, value: Any) -> Any:
    """A value in the form of our schema; wrong types are left for the schema to report."""
    if name == "dataset.file_prefix" and value is None:
        return ""
    if name == "model.n_mha_win_size":
        return [_window(item) for item in value] if isinstance(value, list) else _window(value)
    return value


def _window(size: Any) -> Any:
    """1 and less is full attention there; an even window looks as far to each side as the next odd one."""
    if not isinstance(size, int) or isinstance(size, bool):
        return size
    return -1 if size <= 1 else size + 1 - size % 2


def _unknown(name: str, mark: str) -> str:
    known = [*TRANSLATION, _DEVICES, _UNUSED, _BASE]
    section, _, last = name.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == section}
    close = difflib.get_close_matches(last, list(siblings), 1, 0.6)
    found = siblings[close[0]] if close else next(iter(difflib.get_close_matches(name, known, 1, 0.6)), "")
    read_as = f"(the file is read as ActionFormer's flat form, because of {mark})"
    return f"unknown key, did you mean {found}? {read_as}" if found else f"unknown key {read_as}"
