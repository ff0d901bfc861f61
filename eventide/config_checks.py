"""What the types of the schema cannot say: keys that contradict one another, and parts that do not exist yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import lcm
from pathlib import PurePath
from typing import Any

from eventide.config import BackboneConfig, Config, HeatmapConfig, sum_of
from eventide.config_finding import Finding as Finding
from eventide.config_processes import in_parts
from eventide.config_schema import fields, section_class
from eventide.config_unused import unused_by_points, unused_without_suppression

FEATURE_FORMATS = (".npy", ".npz", ".h5", ".hdf5", ".pt", ".safetensors")
V2_ONLY = ("n_kv_head", "n_hidden", "use_rope", "use_flash_attn", "use_swiglu", "use_rms_norm")


def find_unavailable(config: Config) -> list[Finding]:
    """Keys set to something whose part does not exist yet."""
    findings = []
    for path, field in fields().items():
        notes = field.json_schema_extra
        if not isinstance(notes, dict) or section_class(field.annotation):
            continue
        value, name = value_at(config, path), ".".join(path)
        if notes.get("not_available_yet") and value != field.get_default(call_default_factory=True):
            findings.append(Finding((name,), "not available yet; leave this key out"))
        elif (available := notes.get("available")) and value not in available:  # type: ignore[operator]
            choices = " or ".join(available)  # type: ignore[arg-type]
            findings.append(Finding((name,), f"{value} is not available yet; use {choices}"))
    return findings


def find_contradictions(config: Config) -> list[Finding]:
    """Every contradiction between keys, as errors or warnings. `config` as given, not resolved."""
    return [finding for check in _CHECKS for finding in check(config)]


def value_at(config: Any, path: tuple[str, ...]) -> Any:
    """The value of a key, None below a section that is null."""
    for name in path:
        if config is None:
            return None
        config = getattr(config, name)
    return config


def _lengths(config: Config) -> Iterator[Finding]:
    longest, table = config.dataset.max_seq_len, config.model.backbone.max_len
    if longest is not None and table is not None and longest != table:
        yield Finding(
            ("model.backbone.max_len", "dataset.max_seq_len"),
            f"is {table} but dataset.max_seq_len is {longest}; give one of them, or the same number",
        )
    if config.dataset.force_upsampling and longest is None and table is None:
        yield Finding(
            ("dataset.force_upsampling",),
            "resizes every recording to dataset.max_seq_len, which is not given; give it (192 for ActivityNet)",
        )


def _dataset(config: Config) -> Iterator[Finding]:
    dataset = config.dataset
    if dataset.file_ext not in FEATURE_FORMATS:
        hint = f", did you mean .{dataset.file_ext}?" if f".{dataset.file_ext}" in FEATURE_FORMATS else ""
        message = f"must be one of {', '.join(FEATURE_FORMATS)}, got {dataset.file_ext!r}{hint}"
        yield Finding(("dataset.file_ext",), message)
    if isinstance(dataset.feat_folder, list) and not dataset.feat_folder:
        yield Finding(("dataset.feat_folder",), "is an empty list; name at least one folder")
    if -1 < dataset.feat_stride <= 0:
        message = f"must be greater than 0, or -1 for files that cover their recording, got {dataset.feat_stride:g}"
        yield Finding(("dataset.feat_stride",), message)
    if (crop := dataset.crop_ratio) and not 0 < crop[0] <= crop[1] <= 1:
        yield Finding(("dataset.crop_ratio",), f"must be [low, high] with 0 < low <= high <= 1, got {list(crop)}")
    if dataset.force_upsampling and dataset.downsample_rate > 1:
        yield Finding(
            ("dataset.downsample_rate", "dataset.force_upsampling"),
            f"is {dataset.downsample_rate} but dataset.force_upsampling sets the length; leave one of them out",
        )


def _thresholds(config: Config) -> Iterator[Finding]:
    for low, high in pairwise(sorted(config.tiou_thresholds)):
        if low == high:
            yield Finding(("tiou_thresholds",), f"holds {low} twice")
    if wrong := [value for value in config.tiou_thresholds if not 0 < value <= 1]:
        yield Finding(("tiou_thresholds",), f"must be greater than 0 and at most 1, got {wrong[0]}")
    if any(later <= earlier for earlier, later in pairwise([0, *config.tolerances])):
        yield Finding(("tolerances",), f"must be rising numbers of seconds, all above 0, got {config.tolerances}")


def _architecture(config: Config) -> Iterator[Finding]:
    """Keys that belong to one architecture, and what that one learns."""
    model, dataset, kind = config.model, config.dataset, config.model.meta_arch
    learnt = "points" if kind == "SnapFormer" else "segments"
    if dataset.events not in (None, learnt):
        other = "another model.meta_arch" if learnt == "points" else "model.meta_arch: SnapFormer"
        message = f"is {dataset.events} but model.meta_arch {kind} finds {learnt}; leave it out, or choose {other}"
        yield Finding(("dataset.events", "model.meta_arch"), message)
    elif learnt == "segments" and dataset.point_position != "centre":
        message = f"says where an annotated segment is a point, but model.meta_arch {kind} finds segments; leave it out"
        yield Finding(("dataset.point_position", "model.meta_arch"), message)
    usual_weight = HeatmapConfig.model_fields["offset_weight"].default
    own = {
        "SnapFormer": {
            "model.heatmap.width": model.heatmap.width is not None,
            "model.heatmap.offset_weight": model.heatmap.offset_weight != usual_weight,
        },
        "TBTFormer": {
            "model.reg_max": model.reg_max is not None,
            "model.dfl_weight": model.dfl_weight is not None,
            "model.target_width": model.target_width is not None,
            "test_cfg.quantiles": config.test_cfg.quantiles is not None,
            "test_cfg.std_scale": config.test_cfg.std_scale is not None,
        },
    }
    for owner, keys in own.items():
        for key in (key for key, given in keys.items() if given and owner != kind):
            message = f"belongs to model.meta_arch {owner}, not to {kind}; leave it out"
            yield Finding((key, "model.meta_arch"), message)
    if config.train_cfg.teacher_share and config.train_cfg.ema_decay == 0:
        message = "learns from averaged weights, but train_cfg.ema_decay is 0: there are none; leave one of them out"
        yield Finding(("train_cfg.teacher_share", "train_cfg.ema_decay"), message)
    if kind == "SnapFormer" and config.train_cfg.teacher_share:
        message = "is for the boundaries of segments, and point events have none; leave it out"
        yield Finding(("train_cfg.teacher_share", "model.meta_arch"), message)


def _streams(config: Config) -> Iterator[Finding]:
    inputs, channels = config.dataset.input_dim, config.model.backbone.n_embd
    keys = ("model.backbone.n_embd", "dataset.input_dim")
    for key, value in zip(reversed(keys), (inputs, channels), strict=True):
        if value == []:
            yield Finding((key,), "is an empty list; give at least one number")
            return
    if isinstance(inputs, list) != isinstance(channels, list):
        one, several = ("n_embd", "input_dim") if isinstance(inputs, list) else ("input_dim", "n_embd")
        yield Finding(keys, f"{several} is a list and {one} is not; each stream of dataset.input_dim needs its n_embd")
    elif isinstance(inputs, list) and isinstance(channels, list) and len(inputs) != len(channels):
        message = f"has {len(channels)} entries but dataset.input_dim has {len(inputs)}; give one per stream"
        yield Finding(keys, message)
    elif config.model.backbone.arch[0] == 0 and isinstance(inputs, int) and inputs != channels:
        yield Finding(
            ("model.backbone.arch", *keys),
            f"has no embedding convolution, so n_embd ({channels}) must equal dataset.input_dim ({inputs})",
        )


def _heads(config: Config) -> Iterator[Finding]:
    backbone, name = config.model.backbone, "model.backbone."
    channels = sum_of(backbone.n_embd)
    if config.model.backbone_type == "conv":
        return
    if channels % backbone.n_head:
        yield Finding(
            (name + "n_head", name + "n_embd"),
            f"{backbone.n_head} does not divide the {channels} channels of n_embd; {_divisors(channels)}",
        )
    elif _rotary(config) and channels // backbone.n_head % 2:
        yield Finding(
            (name + "n_head", name + "n_embd", name + "use_rope"),
            f"{backbone.n_head} leaves {channels // backbone.n_head} channels per head, and use_rope turns them in "
            "pairs; choose another number, or set use_rope to false",
        )
    if (shared := backbone.n_kv_head) is not None and backbone.n_head % shared:
        message = f"{shared} does not divide n_head ({backbone.n_head}); {_divisors(backbone.n_head)}"
        yield Finding((name + "n_kv_head", name + "n_head"), message)


def _rotary(config: Config) -> bool:
    return config.model.backbone_type == "convTransformerv2" and config.model.backbone.use_rope is not False


def _divisors(number: int) -> str:
    found = [divisor for divisor in range(1, min(number, 64) + 1) if number % divisor == 0]
    return f"possible are {', '.join(map(str, found))}"


def _versions(config: Config) -> Iterator[Finding]:
    backbone, kind, name = config.model.backbone, config.model.backbone_type, "model.backbone."
    if kind != "convTransformerv2":
        for key in V2_ONLY:
            if getattr(backbone, key) is not None:
                message = f"belongs to model.backbone_type convTransformerv2, not to {kind}; leave it out"
                yield Finding((name + key, "model.backbone_type"), message)
    elif backbone.use_abs_pe and _rotary(config):
        message = "with use_rope gives positions twice; leave one of them out"
        yield Finding((name + "use_abs_pe", name + "use_rope"), message, warning=True)
    if kind != "convTransformer" and backbone.use_rel_pe:
        message = f"belongs to model.backbone_type convTransformer, not to {kind}; leave it out"
        yield Finding((name + "use_rel_pe", "model.backbone_type"), message)
    if kind == "conv" and backbone.use_abs_pe:
        message = "has no effect with model.backbone_type conv; leave it out"
        yield Finding((name + "use_abs_pe", "model.backbone_type"), message)


def _windows(config: Config) -> Iterator[Finding]:
    backbone, key = config.model.backbone, "model.backbone.mha_win_size"
    windows, levels = backbone.mha_win_size, backbone.arch[2] + 1
    if isinstance(windows, list) and len(windows) != levels:
        message = f"has {len(windows)} entries but arch {list(backbone.arch)} makes {levels} levels; give {levels}"
        yield Finding((key, "model.backbone.arch"), message)
    sizes = [windows] if isinstance(windows, int) else windows
    for size in dict.fromkeys(sizes):
        if size != -1 and (size < 3 or size % 2 == 0):
            hint = f"; use {size + 1}, which looks {size // 2} to each side" if size > 1 else ""
            yield Finding((key,), f"must be -1 (full attention) or an odd number from 3, got {size}{hint}")
    if backbone.use_rel_pe and all(size <= 1 for size in sizes):
        message = "acts only in windowed attention and every window is full; it has no effect"
        yield Finding(("model.backbone.use_rel_pe", key), message, warning=True)


def _published(config: Config) -> Iterator[Finding]:
    """The published code pads to max_seq_len, so it must be divisible by each level's stride times window."""
    backbone: BackboneConfig = config.model.backbone
    windows, levels = backbone.mha_win_size, backbone.arch[2] + 1
    if backbone.padding != "published" or (isinstance(windows, list) and len(windows) != levels):
        return
    length = config.resolve().dataset.max_seq_len or 1
    sizes = [windows] * levels if isinstance(windows, int) else windows
    strides = [backbone.scale_factor**level for level in range(config.model.fpn_start_level, levels)]
    pairs = list(zip(strides, sizes, strict=False))  # from the start level on, but windows from the first: as published
    steps = [stride * (window // 2) * 2 if window > 1 else stride for stride, window in pairs]
    for (stride, window), step in zip(pairs, steps, strict=True):
        if length % step:
            common = lcm(*steps)
            message = (
                f"{length} is not divisible by {step} (stride {stride}, window {window}), as padding: published needs; "
                f"use {-(-length // common) * common}, or padding: own"
            )
            yield Finding(("dataset.max_seq_len", "model.backbone.mha_win_size", "model.backbone.padding"), message)
            return


def _pyramid(config: Config) -> Iterator[Finding]:
    model, channels = config.model, sum_of(config.model.backbone.n_embd)
    levels = model.backbone.arch[2] + 1
    if model.fpn_start_level >= levels:
        message = f"is {model.fpn_start_level} but the backbone has levels 0 to {levels - 1}"
        yield Finding(("model.fpn_start_level", "model.backbone.arch"), message)
        return
    if model.fpn_type == "identity" and model.fpn_dim not in (None, channels):
        message = (
            f"is {model.fpn_dim} but the identity neck keeps the {channels} channels of n_embd; set it to {channels}"
        )
        yield Finding(("model.fpn_dim", "model.fpn_type", "model.backbone.n_embd"), message)
    if model.backbone.scale_factor % 2:
        message = f"must be even, got {model.backbone.scale_factor}: the down-sampling kernels are its size + 1, odd"
        yield Finding(("model.backbone.scale_factor",), message)
    if model.regression_range is not None:
        yield from _ranges(model.regression_range, levels - model.fpn_start_level)


def _ranges(ranges: list[tuple[float, float]], levels: int) -> Iterator[Finding]:
    keys = ("model.regression_range", "model.backbone.arch")
    if len(ranges) != levels:
        message = f"has {len(ranges)} rows for {levels} pyramid levels; give {levels}, or leave it out"
        yield Finding(keys, message)
    for low, high in ranges:
        if not 0 <= low < high:
            message = f"each row must be [low, high] with 0 <= low < high, got [{low:g}, {high:g}]"
            yield Finding(keys[:1], message)
            return
    for (_, high), (low, _) in pairwise(ranges):
        if low > high:
            message = f"leaves out distances from {high:g} to {low:g}: such events get no positive point"
            yield Finding(keys[:1], message, warning=True)


def _kernels(config: Config) -> Iterator[Finding]:
    for key in ("model.backbone.embd_kernel_size", "model.head_kernel_size"):
        size = value_at(config, tuple(key.split(".")))
        if size % 2 == 0:
            yield Finding((key,), f"must be odd, so that a kernel has a centre, got {size}; use {size + 1}")


def _classes(config: Config) -> Iterator[Finding]:
    empty, classes = config.train_cfg.head_empty_cls, config.dataset.num_classes
    keys = ("train_cfg.head_empty_cls", "dataset.num_classes")
    if wrong := [label_id for label_id in empty if not 0 <= label_id < classes]:
        message = f"names label id {wrong[0]}, but dataset.num_classes {classes} allows 0 to {classes - 1}"
        yield Finding(keys, message)
    elif len(set(empty)) == classes:
        yield Finding(keys, "names every class, so nothing could be found; leave some out")


def _losses(config: Config) -> Iterator[Finding]:
    train, kind = config.train_cfg, config.model.meta_arch
    if train.cls_loss == "quality_focal" and train.label_smoothing > 0:
        message = "has no place with cls_loss quality_focal, whose targets are soft already; leave it out"
        yield Finding(("train_cfg.label_smoothing", "train_cfg.cls_loss"), message)
    for key, usual in (("cls_loss", "focal"), ("reg_loss", "diou")):
        if kind == "SnapFormer" and getattr(train, key) != usual:
            message = f"is for segments; model.meta_arch {kind} has losses of its own for points; leave it out"
            yield Finding((f"train_cfg.{key}", "model.meta_arch"), message)


def _batches(config: Config) -> Iterator[Finding]:
    if config.loader.batching == "fixed" and config.loader.num_lengths is not None:
        message = "belongs to batching longest or bucketed; batching: fixed pads everything to dataset.max_seq_len"
        yield Finding(("loader.num_lengths", "loader.batching"), message)


def _schedule(config: Config) -> Iterator[Finding]:
    opt = config.opt
    steps = opt.schedule_steps
    if steps and opt.schedule_type == "cosine":
        message = "belongs to schedule_type multistep, not to cosine; leave it out or set opt.schedule_type: multistep"
        yield Finding(("opt.schedule_steps", "opt.schedule_type"), message)
    elif any(later <= earlier for earlier, later in pairwise([0, *steps])):
        yield Finding(("opt.schedule_steps",), f"must be rising numbers from 1, got {steps}")
    elif steps and steps[-1] >= opt.epochs:
        message = f"drops after epoch {steps[-1]}, but training ends after opt.epochs {opt.epochs}"
        yield Finding(("opt.schedule_steps", "opt.epochs"), message)
    if opt.warmup and opt.warmup_epochs == 0:
        message = "is 0 although opt.warmup is true; set opt.warmup: false, or some epochs"
        yield Finding(("opt.warmup_epochs", "opt.warmup"), message)


def _post_processing(config: Config) -> Iterator[Finding]:
    test = config.test_cfg
    if (path := test.ext_score_file) is not None:
        suffix = PurePath(path).suffix.lower()
        if suffix in (".pkl", ".pickle"):
            message = f"{path} is a pickle, which can run code when read; convert it to .json or .npz"
            yield Finding(("test_cfg.ext_score_file",), message)
        elif suffix not in (".json", ".npz"):
            yield Finding(("test_cfg.ext_score_file",), f"must be a .json or .npz file, got {path!r}")
    if test.chunk is not None and test.chunk.overlap >= test.chunk.length:
        message = f"{test.chunk.overlap} must be less than test_cfg.chunk.length ({test.chunk.length})"
        yield Finding(("test_cfg.chunk.overlap", "test_cfg.chunk.length"), message)
    if (levels := test.quantiles) is not None and not (
        levels and all(low < high for low, high in pairwise([0.0, *levels, 1.0]))
    ):
        yield Finding(("test_cfg.quantiles",), f"must be rising numbers between 0 and 1, got {levels}")


def _suppression(config: Config) -> Iterator[Finding]:
    """Suppression and rules: what leaves the other without effect, limits upside down."""
    test, name = config.test_cfg, "test_cfg."
    if config.model.meta_arch == "SnapFormer":
        for key in ("use_diou_nms", "class_sigma", "class_voting_thresh", "max_overlap", "duration_limits"):
            if getattr(test, key):
                message = "is for segments, and point events have no length; use test_cfg.min_gap to keep them apart"
                yield Finding((name + key, "model.meta_arch"), message)
    if test.class_sigma is not None and not test.multiclass_nms:
        message = "is for suppression within each class, but test_cfg.multiclass_nms is false; leave one of them out"
        yield Finding((name + "class_sigma", name + "multiclass_nms"), message)
    elif test.class_sigma is not None and test.ext_score_file is not None:
        message = "acts before test_cfg.ext_score_file gives the classes; use test_cfg.nms_sigma"
        yield Finding((name + "class_sigma", name + "ext_score_file"), message)
    elif test.class_sigma is not None and test.nms_method != "soft":
        message = f"has no effect with nms_method {test.nms_method}"
        yield Finding((name + "class_sigma", name + "nms_method"), message, warning=True)
    if test.class_voting_thresh and not test.multiclass_nms:
        message = "is for suppression within each class, but test_cfg.multiclass_nms is false; use voting_thresh"
        yield Finding((name + "class_voting_thresh", name + "multiclass_nms"), message)
    if test.use_diou_nms and test.nms_method == "none":
        yield Finding((name + "use_diou_nms", name + "nms_method"), "has no effect with nms_method none", warning=True)
    limits = test.duration_limits
    for label, (low, high) in limits.items() if isinstance(limits, dict) else [("", limits or (0.0, 0.0))]:
        if not 0 <= low <= high:
            where = f" of {label}" if label else ""
            message = f"must be [shortest, longest] with 0 <= shortest <= longest, got [{low:g}, {high:g}]{where}"
            yield Finding((name + "duration_limits",), message)


_CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _lengths,
    _dataset,
    _thresholds,
    _architecture,
    _streams,
    _heads,
    _versions,
    _windows,
    _published,
    _pyramid,
    _kernels,
    _classes,
    _losses,
    _batches,
    _schedule,
    _post_processing,
    _suppression,
    in_parts,
    unused_by_points,
    unused_without_suppression,
)
