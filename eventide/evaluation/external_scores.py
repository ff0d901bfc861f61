"""Class scores of recordings from another model (`test_cfg.ext_score_file`), to fuse with detected segments."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from eventide.ops.json_reading import is_number, read_json, shown
from eventide.ops.problems import raise_problems
from eventide.types import EventideError, UsageError


def read_external_scores(path: str | Path, num_classes: int | None = None) -> dict[str, np.ndarray]:
    """Read and check class scores per recording: {recording id: (classes,) float64}, index = label id.

    `.json` is `{recording id: [score, ...]}`, by itself or under the key "results"; `.npz` holds one one-dimensional
    array per recording id. With `num_classes`, every recording needs that many scores.

    Raises:
        UsageError: no such file, or another ending.
        EventideError: the file is not as it should be; the message tells every problem.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_json(path, "external score file")
        if isinstance(content, dict) and isinstance(content.get("results"), dict):
            content = content["results"]
        if not isinstance(content, dict):
            raise EventideError(f"{path}: external scores are {{recording id: [score of class 0, ...]}}")
    elif path.suffix.lower() == ".npz":
        content = _read_npz(path)
    else:
        raise UsageError(f"{path}: external scores are read from .json or .npz (pickle files are not safe to load)")
    scores: dict[str, np.ndarray] = {}
    problems = []
    for name, values in content.items():
        problem = _problem(values, num_classes)
        if problem:
            problems.append(f"{shown(name)}: {problem}")
        else:
            scores[name] = np.asarray(values, dtype=np.float64)
    counts = {name: len(values) for name, values in scores.items()}
    problems += [] if problems else _uneven(counts)
    raise_problems(str(path), problems)
    if not scores:
        raise EventideError(f"{path}: holds no external scores")
    return scores


def _uneven(counts: dict[str, int]) -> list[str]:
    """The problem that not all recordings have scores for the same number of classes, if so."""
    if len(set(counts.values())) < 2:
        return []
    first, *others = counts
    other = next(name for name in others if counts[name] != counts[first])
    return [f"{shown(other)} has {counts[other]} scores and {shown(first)} has {counts[first]}; give one per class"]


def scores_of(scores: dict[str, np.ndarray], recording: str, path: str | Path) -> np.ndarray:
    """The class scores of a recording.

    Raises:
        EventideError: it has none.
    """
    if recording not in scores:
        raise EventideError(
            f"{path}: no external scores for recording {recording} (it has {len(scores)} others, such as "
            f"{next(iter(scores))}); the file must cover every recording"
        )
    return scores[recording]


def _read_npz(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{path}: no such external score file; check the path")
    reason = "it is not a readable .npz file"
    if zipfile.is_zipfile(path):
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except Exception as error:  # a damaged archive fails in many ways
            if "allow_pickle" in str(error):
                reason = "it holds Python objects"
    raise EventideError(f"{path}: the external scores cannot be read: {reason}")


def _problem(values: Any, num_classes: int | None) -> str | None:
    """What is wrong with the scores of one recording, if anything."""
    if isinstance(values, np.ndarray):
        plain = values.ndim == 1 and np.issubdtype(values.dtype, np.number) and not np.iscomplexobj(values)
    else:
        plain = isinstance(values, list) and all(is_number(value) for value in values)
    if not plain or len(values) == 0:
        return "a list of numbers, one per class, is needed"
    if num_classes is not None and len(values) != num_classes:
        return f"{len(values)} scores, but there are {num_classes} classes"
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        return "scores must be finite and not negative (probabilities)"
    return None
