"""Facts of annotation files: what counts, which subsets, which classes are empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.data.annotations import load_annotations
from eventide.data.survey import Survey, survey
from eventide.types import EventideError
from tests.data.making import plain_database, record, write_json


def surveyed(folder: Path, database: dict[str, Any], split: str = "training") -> Survey:
    return survey(load_annotations(write_json(folder / "a.json", database)), split)


def point(*times: float, subset: str = "training") -> dict[str, Any]:
    return record(subset=subset) | {"annotations": [{"time": time, "label": "snap"} for time in times]}


def test_a_plain_data_set(tmp_path: Path) -> None:
    found = surveyed(tmp_path, plain_database())
    assert found.labels == ("clap", "jump")
    assert found.counts == (12, 12)
    assert (found.events, found.points, found.fps) == (24, 0, 10.0)
    assert len(found.recordings) == 7
    np.testing.assert_allclose(found.durations, 5.0)
    assert found.recording_of.tolist() == sorted([*range(6)] * 4)
    assert found.lengths().tolist() == [60.0] * 7
    assert (found.train_split, found.val_split) == (("training",), ("validation",))
    assert found.empty_classes == []


@pytest.mark.parametrize(
    ("label", "training", "kept", "counts"),
    [
        ("repeated", [(1, 2, "a"), (1, 2, "a"), (5, 9, "b")], [1, 4], (1, 1)),
        ("too short to count", [(1, 1.0001, "a"), (5, 9, "b")], [4], (0, 1)),
        ("overlapping, two classes", [(1, 2, "a"), (1, 2, "b")], [1, 1], (1, 1)),
    ],
)
def test_what_counts(tmp_path: Path, label: str, training: list[Any], kept: list[float], counts: tuple[int]) -> None:
    database = {"r": record(*training), "v": record((1, 2, "a"), (3, 4, "b"), subset="validation")}
    found = surveyed(tmp_path, database)
    np.testing.assert_allclose(found.durations, kept)
    assert found.counts == counts


def test_classes_without_training_examples(tmp_path: Path) -> None:
    found = surveyed(tmp_path, {"r": record((1, 2, "a")), "v": record((1, 2, "b"), subset="validation")})
    assert found.empty_classes == [1]


def test_point_events(tmp_path: Path) -> None:
    found = surveyed(tmp_path, {"r": point(1, 2, 3), "s": record((4, 6, "snap")), "v": point(1, subset="test")})
    assert (found.points, found.events, found.counts) == (3, 4, (4,))
    assert found.durations.tolist() == [2.0]
    assert found.recording_of.tolist() == [1]


@pytest.mark.parametrize(
    ("label", "others", "expected"),
    [
        ("usual names first", ["extra", "test", "validation"], "validation"),
        ("whatever its case", ["extra", "TEST"], "TEST"),
        ("the only other one", ["extra"], "extra"),
        ("none", [], "training"),
    ],
)
def test_the_subset_to_evaluate_on(tmp_path: Path, label: str, others: list[str], expected: str) -> None:
    database = {"r": record((1, 2, "a"))} | {name: record((1, 2, "a"), subset=name) for name in others}
    assert surveyed(tmp_path, database).val_split == (expected,)


def test_lengths_and_rates_where_they_are_missing(tmp_path: Path) -> None:
    one, two = record((1, 7.5, "a"), duration=None), record(duration=None, fps=None)
    found = surveyed(tmp_path, {"one": one, "two": two})
    assert found.lengths().tolist() == [7.5, 0.0]
    assert found.fps is None
    assert not found.has_rates


@pytest.mark.parametrize(
    ("label", "split", "message"),
    [
        ("no such subset", "train", "no recordings in subset 'train'.*did you mean 'training'"),
        ("no events", "empty", r"no events in subset empty.*'training' \(1\)"),
    ],
)
def test_what_cannot_be_surveyed(tmp_path: Path, label: str, split: str, message: str) -> None:
    with pytest.raises(EventideError, match=message):
        surveyed(tmp_path, {"r": record((1, 2, "a")), "e": record(subset="empty")}, split)
