"""evaluation/results.py: writing, reading, and every way a file can be wrong."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.evaluation.results import read_results, write_results, write_results_csv
from eventide.types import Detections, EventideError, UsageError

FOUND = {
    "b": Detections(
        np.array([[1, 2.5], [0.1, 4]], np.float32),
        np.array([0.25, 0.75], np.float32),
        np.array([1, 0]),
        ["walk", "run"],
    ),
    "ü/ 1": Detections(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ["walk", "run"]),
}
RECORD = {"segment": [1, 2.5], "label": "run", "label_id": 1, "score": 0.5}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, FOUND)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["version"] == "1.0"
    assert [record["score"] for record in content["results"]["b"]] == [0.75, 0.25]  # by falling score
    read = read_results(path)
    assert read.recordings == ["b", "ü/ 1"]
    assert read.recording_index.tolist() == [0, 0]
    np.testing.assert_array_equal(read.segments.astype(np.float32), FOUND["b"].segments[[1, 0]])
    np.testing.assert_array_equal(read.scores.astype(np.float32), [0.75, 0.25])
    assert read.label_ids is not None
    assert read.label_ids.tolist() == [0, 1]
    assert [read.labels[i] for i in read.label_index] == ["walk", "run"]  # type: ignore[union-attr]
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]  # nothing temporary is left


def test_table(tmp_path: Path) -> None:
    write_results_csv(tmp_path / "results.csv", FOUND)
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["recording", "start", "end", "label", "label_id", "score"]
    assert rows[1][3:] == ["walk", "0", "0.75"]
    assert len(rows) == 3


def test_points_round_trip(tmp_path: Path) -> None:
    times = np.array([[3.5, 3.5], [0.25, 0.25]], np.float32)
    found = {
        "a": Detections(times, np.array([0.25, 0.75], np.float32), np.array([1, 0]), ["snap", "kick"], "points"),
        "b": Detections(np.zeros((0, 2), np.float32), np.zeros(0), np.zeros(0, np.int64), ["snap", "kick"], "points"),
    }
    write_results(tmp_path / "r.json", found)
    read = read_results(tmp_path / "r.json")
    assert read.kind == "points"
    assert read.segments.tolist() == [[0.25, 0.25], [3.5, 3.5]]  # by falling score
    assert read.segment_std is None
    write_results_csv(tmp_path / "r.csv", found)
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").splitlines() == [
        "recording,time,label,label_id,score",
        "a,0.25,snap,0,0.75",
        "a,3.5,kick,1,0.25",
    ]


UNCERTAIN = Detections(
    np.array([[1, 2], [3, 5]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([0, 1]),
    ["run", "walk"],
    segment_std=np.array([[0.5, 0.25], [1, 2]], np.float32),
    quantiles=np.array([[[0.5, 1.5], [1.75, 2.25]], [[2, 4], [3, 7]]], np.float32),
    quantile_levels=(0.1, 0.975),
)


def test_uncertain_boundaries(tmp_path: Path) -> None:
    certain = Detections(np.array([[1, 2]], np.float32), np.array([0.5], np.float32), np.array([0]), ["run"])
    write_results(tmp_path / "r.json", {"a": UNCERTAIN, "b": certain})
    read = read_results(tmp_path / "r.json")
    assert read.segment_std is not None
    assert read.segment_std.tolist() == [[0.5, 0.25], [1, 2], [0, 0]]  # 0 where the file has none
    assert read.intervals is not None
    assert read.intervals[:2].tolist() == [[[0.5, 1.5], [1.75, 2.25]], [[2, 4], [3, 7]]]
    assert np.isnan(read.intervals[2]).all()  # NaN where the file has none
    assert read.interval_levels == (0.1, 0.975)
    write_results_csv(tmp_path / "r.csv", {"a": UNCERTAIN, "b": certain})
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").splitlines() == [
        "recording,start,end,label,label_id,score,start_std,end_std,start_q10,end_q10,start_q97.5,end_q97.5",
        "a,1.0,2.0,run,0,0.75,0.5,0.25,0.5,1.75,1.5,2.25",
        "a,3.0,5.0,walk,1,0.5,1.0,2.0,2.0,3.0,4.0,7.0",
        "b,1.0,2.0,run,0,0.5,,,,,,",
    ]


@pytest.mark.parametrize(
    ("label", "quantiles", "expected", "levels"),
    [
        ("none", [None], None, None),
        ("no level", [{}], None, None),
        ("one level is no interval", [{"0.5": [1, 2]}], None, None),
        (
            "the outermost, in any order",
            [{"0.5": [1, 2], "0.95": [1.5, 3], "0.05": [0.5, 1]}],
            [[[0.5, 1.5], [1, 3]]],
            (0.05, 0.95),
        ),
        (
            "other levels in another record",
            [{"0.1": [0, 1], "0.9": [2, 3]}, {"0.2": [0, 1], "0.9": [2, 3]}],
            [[[0, 2], [1, 3]]] * 2,
            None,
        ),
        ("levels as others write them", [{"1e-1": [0, 1], ".90": [0, 1]}], [[[0, 0], [1, 1]]], (0.1, 0.9)),
    ],
)
def test_quantiles(tmp_path: Path, label: str, quantiles: list[Any], expected: Any, levels: Any) -> None:
    records = [{**RECORD, "quantiles": value} for value in quantiles]
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": records}}), encoding="utf-8")
    read = read_results(tmp_path / "r.json")
    assert (None if read.intervals is None else read.intervals.tolist()) == expected
    assert read.interval_levels == levels


@pytest.mark.parametrize("part", ["segment_std", "quantiles"])
def test_no_nan_beside_a_segment(tmp_path: Path, part: str) -> None:
    broken = replace(UNCERTAIN, **{part: np.full_like(getattr(UNCERTAIN, part), np.nan)})
    with pytest.raises(EventideError, match="recording a: detections hold NaN"):
        write_results(tmp_path / "r.json", {"a": broken})


POINT = {"time": 3.5, "label": "run", "label_id": 1, "score": 0.5}


@pytest.mark.parametrize(
    ("label", "records", "kind"),
    [
        ("segments", [RECORD], "segments"),
        ("points", [POINT, {**POINT, "time": 4}], "points"),
        ("no records", [], None),
        ("an empty time beside a segment", [{**RECORD, "time": None}], "segments"),
        ("an empty segment beside a time", [{**POINT, "segment": None}], "points"),
        ("other keys are passed over", [{**POINT, "frame": 88, "quantiles": "?"}], "points"),
    ],
)
def test_kind(tmp_path: Path, label: str, records: Any, kind: str | None) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": records}}), encoding="utf-8")
    assert read_results(tmp_path / "r.json").kind == kind


def test_one_file_holds_one_kind(tmp_path: Path) -> None:
    content = {"results": {"a": [], "b": [POINT, RECORD], "c": [RECORD, POINT]}}
    (tmp_path / "r.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EventideError, match="2 problems") as caught:
        read_results(tmp_path / "r.json")
    assert 'results["b"][1]: a segment, but results["b"][0] is a point event' in str(caught.value)
    assert 'results["c"][0]: a segment' in str(caught.value)


@pytest.mark.parametrize(
    ("label", "records", "label_ids", "labels"),
    [
        ("both", [RECORD], [1], ["run"]),
        ("only ids", [{"segment": [1, 2], "label_id": 3, "score": 1}], [3], []),
        ("only labels", [{"segment": [1, 2], "label": "run", "score": 1}], None, ["run"]),
        ("a whole number as label is an id", [{"segment": [1, 2], "label": 3, "score": 1}], [3], []),
        ("the id as text is no label", [{"segment": [1, 2], "label": "3", "label_id": 3, "score": 1}], [3], []),
        ("one record lacks the label", [RECORD, {"segment": [1, 2], "label_id": 0, "score": 1}], [1, 0], []),
        ("no records", [], [], []),
    ],
)
def test_classes(tmp_path: Path, label: str, records: Any, label_ids: Any, labels: list[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": records}}), encoding="utf-8")
    read = read_results(tmp_path / "r.json")
    assert (read.label_ids.tolist() if read.label_ids is not None else None) == label_ids
    assert read.labels == labels


@pytest.mark.parametrize(
    ("label", "change", "message"),
    [
        ("no segment", {"segment": None}, "segment is missing"),
        ("both segment and time", {"time": 1.5}, "both segment and time are given"),
        ("time of text", {"segment": None, "time": "1"}, 'time is "1"'),
        ("infinite time", {"segment": None, "time": 1e999}, "holds Infinity|a number of seconds"),
        ("time is true", {"segment": None, "time": True}, "time is true"),
        ("deviation of one number", {"segment_std": 0.5}, "segment_std is 0.5; of a segment"),
        ("negative deviation", {"segment_std": [0.5, -1]}, "from 0 in seconds is needed"),
        ("deviations of text", {"segment_std": ["a", "b"]}, "from 0 in seconds is needed"),
        ("deviation of a point", {"segment": None, "time": 1.5, "segment_std": [1, 1]}, "of a segment"),
        ("quantiles that are a list", {"quantiles": [[1, 2]]}, "quantiles is .*rising by level, is needed"),
        ("quantile of one number", {"quantiles": {"0.1": 1}}, "quantiles is"),
        ("quantile of text", {"quantiles": {"0.1": ["1", "2"]}}, "quantiles is"),
        ("level of text", {"quantiles": {"low": [1, 2]}}, "quantiles is"),
        ("level 1", {"quantiles": {"1": [1, 2]}}, "quantiles is"),
        ("level 0", {"quantiles": {"0": [1, 2]}}, "quantiles is"),
        ("no level", {"quantiles": {"nan": [1, 2]}}, "quantiles is"),
        ("falling starts", {"quantiles": {"0.1": [1, 2], "0.9": [0, 3]}}, "quantiles is"),
        ("falling ends", {"quantiles": {"0.9": [1, 1], "0.1": [0, 3]}}, "quantiles is"),
        ("segment of text", {"segment": ["1", "2"]}, "start, end"),
        ("true is no number", {"segment": [True, 2]}, "start, end"),
        ("infinite end", {"segment": [1, 1e999]}, "holds Infinity|start, end"),
        ("huge whole number", {"segment": [1, 10**400]}, "start, end"),
        ("id is a float", {"label_id": 1.0}, "label_id is 1.0"),
        ("id is huge", {"label_id": 2**40}, "label_id is"),
        ("label is a list", {"label": ["run"]}, "a text is needed"),
        ("score is null", {"score": None}, "score is missing"),
        ("score is infinite", {"score": -1e999}, "holds -Infinity|finite number"),
        ("some have only ids, others only labels", {"label_id": None}, "only a label and others only a label_id"),
    ],
)
def test_what_is_refused(tmp_path: Path, label: str, change: dict[str, Any], message: str) -> None:
    record = {key: value for key, value in {**RECORD, **change}.items() if value is not None}
    other = {"segment": [1, 2], "label_id": 0, "score": 1}
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": [record, other]}}), encoding="utf-8")
    with pytest.raises(EventideError, match=message):
        read_results(tmp_path / "r.json")


def test_only_the_first_problems_are_told(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": [{}] * 80}}), encoding="utf-8")
    with pytest.raises(EventideError, match="80 problems") as caught:
        read_results(tmp_path / "r.json")
    assert str(caught.value).count("\n") == 51
    assert str(caught.value).endswith("and 30 more")


def test_no_nan_is_written(tmp_path: Path) -> None:
    broken = Detections(np.array([[0, np.nan]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    with pytest.raises(EventideError, match="recording a: detections hold NaN"):
        write_results(tmp_path / "r.json", {"a": broken})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["", "file/results.json"])
def test_places_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is a folder|cannot be written"):
        write_results(tmp_path / where, FOUND)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANY_RECORD = st.fixed_dictionaries(
    {},
    optional={
        "segment": st.lists(st.floats() | st.integers(), max_size=3) | ANY_JSON,
        "time": st.floats() | ANY_JSON,
        "segment_std": st.lists(st.floats() | st.integers(), max_size=3) | ANY_JSON,
        "quantiles": st.dictionaries(
            st.sampled_from(["0.1", "0.9", "1", "x"]), st.lists(st.floats() | st.integers(), max_size=3)
        )
        | ANY_JSON,
        "label": st.text(max_size=3) | ANY_JSON,
        "label_id": st.integers(-1, 3) | ANY_JSON,
        "score": st.floats() | ANY_JSON,
    },
)
ANY_RESULTS = st.fixed_dictionaries(
    {
        "results": st.dictionaries(st.text(max_size=3), st.lists(ANY_RECORD, max_size=3) | ANY_JSON, max_size=3)
        | ANY_JSON
    }
)


def check_outcome(path: Path) -> None:
    """Reading gives columns of one length, or one of our errors; nothing else."""
    try:
        read = read_results(path)
    except EventideError as error:
        message = str(error)
    else:
        message = "read"
        assert len(read.segments) == len(read.scores) == len(read.recording_index)
        assert np.isfinite(read.segments).all()
        assert np.isfinite(read.scores).all()
        assert read.intervals is None or len(read.intervals) == len(read.scores)
        assert read.segment_std is None or (np.isfinite(read.segment_std).all() and (read.segment_std >= 0).all())
    assert message.strip()
    assert message.encode("utf-8")


@given(ANY_RESULTS | ANY_JSON)
def test_fuzzed_content(tmp_path: Path, content: Any) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content), encoding="utf-8")
    check_outcome(tmp_path / "r.json")


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,0129eE.-+ntrufals \\u', max_size=60).map(str.encode))
def test_fuzzed_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r.json").write_bytes(data)
    check_outcome(tmp_path / "r.json")


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"\xef\xbb\xbf", b'"\\ud800"'])
def test_hostile_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(EventideError):
        read_results(tmp_path / "r.json")
