"""evaluation/external_scores.py: reading class scores of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.evaluation.external_scores import read_external_scores, scores_of
from eventide.types import EventideError, UsageError


@pytest.mark.parametrize("content", [{"a": [0.25, 0.75], "b": [0, 1]}, {"results": {"a": [0.25, 0.75], "b": [0, 1]}}])
def test_json(tmp_path: Path, content: Any) -> None:
    (tmp_path / "s.json").write_text(json.dumps(content), encoding="utf-8")
    scores = read_external_scores(tmp_path / "s.json", 2)
    assert {name: values.tolist() for name, values in scores.items()} == {"a": [0.25, 0.75], "b": [0.0, 1.0]}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_npz(tmp_path: Path, dtype: Any) -> None:
    np.savez(tmp_path / "s.npz", a=np.array([0, 1], dtype), b=np.array([1, 0], dtype))
    scores = read_external_scores(tmp_path / "s.npz")
    assert scores["b"].tolist() == [1, 0]
    assert scores["b"].dtype == np.float64


@pytest.mark.parametrize(
    ("label", "name", "data", "message"),
    [
        ("cut-off archive", "s.npz", b"PK\x03\x04 and no more", "not a readable .npz"),
        ("not an archive", "s.npz", b"hello", "not a readable .npz"),
        ("empty file", "s.npz", b"", "not a readable .npz"),
        ("no JSON", "s.json", b"hello", "not valid JSON"),
        ("nothing in it", "s.json", b"{}", "holds no external scores"),
        ("a list", "s.json", b"[1]", "external scores are"),
        ("text", "s.json", b'{"a": ["x"]}', "a list of numbers, one per class"),
        ("no classes", "s.json", b'{"a": []}', "a list of numbers, one per class"),
        ("negative", "s.json", b'{"a": [-1, 2]}', "not negative"),
        ("another number of classes", "s.json", b'{"a": [1, 2, 3]}', "3 scores"),
        ("two problems", "s.json", b'{"a": [1], "b": 2}', "2 problems"),
    ],
)
def test_what_is_refused(tmp_path: Path, label: str, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EventideError, match=message):
        read_external_scores(tmp_path / name, 2)


def test_recordings_of_unequal_numbers_of_classes(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"a": [0, 1], "b": [1, 0], "c": [0, 1, 0]}')
    with pytest.raises(EventideError, match='"c" has 3 scores and "a" has 2'):
        read_external_scores(tmp_path / "s.json")


@pytest.mark.parametrize("name", ["none.json", "none.npz", "scores.txt"])
def test_wrong_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        read_external_scores(tmp_path / name)


def test_a_recording_without_scores() -> None:
    with pytest.raises(EventideError, match="no external scores for recording b"):
        scores_of({"a": np.ones(2)}, "b", "s.json")


@given(st.binary(max_size=80))
def test_fuzzed_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04" + data)
    with pytest.raises(EventideError):
        read_external_scores(tmp_path / "s.npz")
