"""Checkpoints of the published ActionFormer code (github.com/happyharrycn/actionformer_release)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from eventide.config import Config
from eventide.engine.model_file import StoredModel
from eventide.engine.safe_loading import load_tensors
from eventide.engine.weights import describe_model, load_weights
from eventide.models import build
from eventide.types import EventideError, UsageError

PREFIX = "module."  # what DataParallel puts before every name
AVERAGED, RAW = "state_dict_ema", "state_dict"
REBUILT = ("backbone.pos_embd", "point_generator.buffer_points")  # tables that follow from the configuration


def import_checkpoint(config: Config, path: Path, *, labels: list[str] | None = None, raw: bool = False) -> StoredModel:
    """The model in a published checkpoint.

    Args:
        config: its configuration, translated from ActionFormer's form.
        path: `epoch_*.pth.tar`; read with nothing but tensors and plain containers allowed.
        labels: class names, index = label id; the ids themselves where None.
        raw: take the weights of the last step in place of the averaged ones.
    Raises:
        EventideError: not such a checkpoint, or its weights are not those of `config`.
    """
    tensors = read_tensors(path, RAW if raw else AVERAGED)
    # The published code computes every sequence on a padded canvas, and its weights have learnt with it.
    backbone = config.model.backbone.model_copy(update={"padding": "published"})
    config = config.model_copy(update={"model": config.model.model_copy(update={"backbone": backbone})})
    name = describe_model(config)
    detector = build(config).detector
    load_weights(detector, tensors, source=str(path), stored="the published ActionFormer code", wanted=name)
    names = class_names(labels, config.dataset.num_classes)
    return StoredModel(config, names, config.dataset.default_fps, dict(detector.state_dict()))


def class_names(labels: list[str] | None, count: int) -> list[str]:
    """One name per label id, the id itself where there is none.

    Raises:
        EventideError: there are more labels than the model has classes.
    """
    if labels is None:
        return [str(index) for index in range(count)]
    if count == 1 and len(labels) > 1:  # class-free proposals
        return ["proposal"]
    if len(labels) > count:
        raise EventideError(
            f"the annotations have {len(labels)} classes and the model has {count}; are they of the same data set?"
        )
    return labels + [str(index) for index in range(len(labels), count)]


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """The tensors under `key` of a published checkpoint, by their names without the prefix.

    Raises:
        UsageError: there is no such file.
        EventideError: it is damaged, would run code, or is no such checkpoint.
    """
    if not path.is_file():
        raise UsageError(f"there is no checkpoint at {path}")
    return _named_tensors(path, load_tensors(path), key)


def _named_tensors(path: Path, content: Any, key: str) -> dict[str, Tensor]:
    found = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        hint = "; --raw takes the weights of the last step" if key == AVERAGED and RAW in keys.split(", ") else ""
        raise EventideError(f"{path} is no checkpoint of the published code: no {key} in it (found: {keys}){hint}")
    tensors = {str(name).removeprefix(PREFIX): value.float() for name, value in found.items()}
    return {name: value for name, value in tensors.items() if not name.startswith(REBUILT)}
