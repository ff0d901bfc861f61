"""The model file: weights, configuration, labels and rate in one safetensors file, all that predicting needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from eventide.config import Config
from eventide.ops.files import write_file
from eventide.types import EventideError

FORMAT = "eventide-model-1"


@dataclass
class StoredModel:
    """What a model file or a training checkpoint says of a model."""

    config: Config
    labels: list[str]  # index = label id
    fps: float | None  # rate of the training recordings where they share one
    tensors: dict[str, Tensor]  # the detector's, averaged


def save_model(path: Path, model: StoredModel, extra: Mapping[str, Any] | None = None) -> None:
    """Write a model file, whole or not at all; `extra` is kept with it as JSON (where it came from)."""
    metadata = {
        "format": FORMAT,
        "config": json.dumps(model.config.model_dump(mode="json")),
        "labels": json.dumps(model.labels, ensure_ascii=False),
        "fps": json.dumps(model.fps),
        "extra": json.dumps(dict(extra or {})),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.tensors.items()}
    write_file(path, lambda file: file.write(serialise(tensors, metadata)))


def load_model(path: Path) -> StoredModel:
    """Read a model file.

    Raises:
        EventideError: the file is damaged, or it is safetensors of something else.
    """
    metadata, tensors = _read(path)
    try:
        labels, fps = json.loads(metadata["labels"]), json.loads(metadata["fps"])
        config = json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise EventideError(f"{path} has no readable description of its model ({error})") from None
    return StoredModel(stored_config(config, path), [str(label) for label in labels], fps, tensors)


def replace_config(path: Path, config: Config, extra: Mapping[str, Any]) -> None:
    """Put another configuration into a model file, and more into what is kept with it; the weights stay, bit for bit.

    Raises:
        EventideError: the file is damaged, or it is safetensors of something else.
    """
    metadata, tensors = _read(path)
    metadata["config"] = json.dumps(config.model_dump(mode="json"))
    metadata["extra"] = json.dumps({**json.loads(metadata.get("extra", "{}")), **extra})
    write_file(path, lambda file: file.write(serialise(tensors, metadata)))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Description and tensors of a model file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise EventideError(
                    f"{path} is no Eventide model (format {metadata.get('format', 'not named')!r}, expected "
                    f"{FORMAT!r}); take best.safetensors of a run, or convert with `eventide import-actionformer`"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except OSError as error:
        raise EventideError(f"{path} cannot be read: {error.strerror or error}") from None
    except SafetensorError:
        raise EventideError(f"{path} cannot be read as a model file: it is damaged or cut off; copy it again") from None
    return metadata, tensors


def stored_score(path: Path) -> float | None:
    """The average mAP that a model file was kept for; None where it says none, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            score = json.loads((file.metadata() or {})["extra"])["average_mAP"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return score if isinstance(score, float) else None


RETIRED = ("shards",)  # keys of `dataset`


def without_retired(config: Any) -> Any:
    """A stored configuration without the keys that earlier versions wrote, but never used."""
    if not isinstance(config, dict) or not isinstance(config.get("dataset"), dict):
        return config
    data = {key: value for key, value in config["dataset"].items() if not (key in RETIRED and value is None)}
    return {**config, "dataset": data}


def stored_config(config: Any, path: Path) -> Config:
    """The configuration kept in a file, checked.

    Raises:
        EventideError: it does not fit this version of Eventide.
    """
    try:
        return Config.model_validate_json(json.dumps(without_retired(config))).resolve()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EventideError(
            f"the configuration in {path} does not fit this version of Eventide: {place}: {first['msg']}"
        ) from None
