"""Keys that give values per label: which label ids these are, once the labels are known."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from eventide.config import Config, TestConfig
from eventide.types import EventideError

PER_LABEL = ("class_sigma", "class_threshold", "min_gap", "max_overlap", "duration_limits")
MAX_NAMED = 20


def by_label_id(settings: TestConfig, key: str, labels: Sequence[str]) -> dict[int, Any]:
    """The values that a key of `PER_LABEL` gives per label, by label id; empty where it gives none or one for all.

    Raises:
        EventideError: it names a label that there is not.
    """
    values = getattr(settings, key)
    if not isinstance(values, dict):
        return {}
    if problem := label_problem(f"test_cfg.{key}", values, labels):
        raise EventideError(problem)
    return {labels.index(label): value for label, value in values.items()}


def label_problems(settings: TestConfig, labels: Sequence[str]) -> list[str]:
    """What is wrong with the labels that `test_cfg` names, one message per key."""
    values = ((f"test_cfg.{key}", getattr(settings, key)) for key in PER_LABEL)
    problems = [label_problem(key, value, labels) for key, value in values if isinstance(value, dict)]
    return [problem for problem in problems if problem]


def named_labels(config: Config) -> list[str]:
    """All labels that a configuration names, sorted."""
    values = [config.model.heatmap.width, *(getattr(config.test_cfg, key) for key in PER_LABEL)]
    return sorted({label for value in values if isinstance(value, dict) for label in value})


def label_problem(key: str, named: dict[str, Any], labels: Sequence[str]) -> str:
    """What to say about labels that a key names and that there are not; empty when all are there."""
    unknown = [label for label in named if label not in labels]
    if not unknown:
        return ""
    if not labels:
        return f"{key} names the label {unknown[0]!r}, but the classes have no names here"
    close = difflib.get_close_matches(unknown[0], labels, 1, 0.6)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    more = f" and {len(unknown) - 1} more are" if len(unknown) > 1 else " is"
    there = ", ".join(repr(label) for label in labels[:MAX_NAMED])
    rest = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
    return f"{key}: {unknown[0]!r}{hint}{more} not among the labels: {there}{rest}"
