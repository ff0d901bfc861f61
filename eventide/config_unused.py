"""Keys that a configuration sets and that do nothing there: warnings, since a `base:` file may have set them."""

from __future__ import annotations

from collections.abc import Iterator

from eventide.config import Config, ModelConfig, TrainConfig, default_ranges
from eventide.config_finding import Finding
from eventide.config_section import Section
from eventide.config_test_cfg import TestConfig

# Of segments: positive points and losses in training, suppression by overlap and length after it.
TRAINING = ("center_sample", "center_sample_radius", "loss_weight", "label_smoothing")
SUPPRESSION = ("nms_method", "nms_sigma", "iou_threshold", "voting_thresh", "multiclass_nms", "duration_thresh")


def unused_by_points(config: Config) -> Iterator[Finding]:
    """With SnapFormer: one warning of all keys for segments that differ from their defaults."""
    if config.model.meta_arch != "SnapFormer":
        return
    keys = [f"train_cfg.{key}" for key in TRAINING if _differs(config.train_cfg, key, TrainConfig)]
    if _has_own_ranges(config.model):
        keys.append("model.regression_range")
    keys += [f"test_cfg.{key}" for key in SUPPRESSION if _differs(config.test_cfg, key, TestConfig)]
    if keys:
        others = f"nor have {', '.join(keys[1:])}; leave them out" if keys[1:] else "leave it out"
        message = f"is for segments and has no effect with model.meta_arch SnapFormer, which finds points; {others}"
        yield Finding((*keys, "model.meta_arch"), message, warning=True)


def unused_without_suppression(config: Config) -> Iterator[Finding]:
    """With `nms_method: none`: a warning of voting."""
    test, points = config.test_cfg, config.model.meta_arch == "SnapFormer"  # voting on points is an error elsewhere
    if test.class_voting_thresh and test.multiclass_nms and test.nms_method == "none" and not points:
        keys = ("test_cfg.class_voting_thresh", "test_cfg.nms_method")
        yield Finding(keys, "has no effect with nms_method none", warning=True)


def _differs(section: Section, key: str, kind: type[Section]) -> bool:
    return bool(getattr(section, key) != kind.model_fields[key].default)


def _has_own_ranges(model: ModelConfig) -> bool:
    """Whether regression ranges are given that are not the ones of the default."""
    ranges = default_ranges(model.backbone.arch[2] + 1 - model.fpn_start_level)
    return model.regression_range not in (None, ranges)
