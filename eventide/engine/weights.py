"""Putting stored tensors into a detector, refusing those of another model with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from eventide.config import Config
from eventide.types import EventideError

SHOWN = 3  # how many differing keys a message names


def describe_model(config: Config) -> str:
    """Name of the architecture and its backbone, for messages."""
    return f"{config.model.meta_arch} with backbone {config.model.backbone_type}"


def load_weights(detector: nn.Module, tensors: Mapping[str, Tensor], *, source: str, stored: str, wanted: str) -> None:
    """Copy `tensors` into `detector`; names and shapes must be the same.

    Args:
        source: file of the tensors, for the message.
        stored: what the file says it holds (`describe_model` of its configuration).
        wanted: what `detector` is.
    Raises:
        EventideError: names both models and the first keys that differ.
    """
    differences = tensor_differences(tensors, detector.state_dict())
    if differences:
        hint = "; is this the configuration that they were trained with?" if stored != wanted else ""
        raise EventideError(
            f"{source} holds weights of {stored}, which do not fit {wanted}: {shorten(differences)}{hint}"
        )
    detector.load_state_dict(dict(tensors))


def tensor_differences(stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps stored tensors out of a model, a phrase per key, in the model's order and then the file's."""
    differences = []
    for key, tensor in wanted.items():
        if key not in stored:
            differences.append(f"{key} is missing")
        elif stored[key].shape != tensor.shape:
            differences.append(f"{key} has shape {tuple(stored[key].shape)} instead of {tuple(tensor.shape)}")
    differences += [f"{key} is not part of the model" for key in stored if key not in wanted]
    return differences


def config_differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two dumped configurations, each with both values."""
    differences = []
    for key in [*stored, *(key for key in wanted if key not in stored)]:
        old, new, name = stored.get(key), wanted.get(key), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += config_differences(old, new, f"{name}.")
        elif old != new:
            differences.append(f"{name} was {old!r} and is now {new!r}")
    return differences


def shorten(phrases: list[str]) -> str:
    """The first few phrases, and how many more there are."""
    more = len(phrases) - SHOWN
    return "; ".join(phrases[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
