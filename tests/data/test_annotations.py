"""Annotation files: what is read, what is refused, and how it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.data.annotations import load_annotations, split
from eventide.types import EventideError, UsageError
from tests.data.making import record, write_json


def annotated(*annotations: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"rec": {"subset": "training", "duration": 10.0, "fps": 30, "annotations": list(annotations), **other}}


def event(start: Any = 1.0, end: Any = 2.0, **other: Any) -> dict[str, Any]:
    return {"segment": [start, end], "label": "a", **other}


def point(time: Any = 3.0, **other: Any) -> dict[str, Any]:
    return {"time": time, "label": "a", **other}


def test_reads_segments_labels_and_rates(tmp_path: Path) -> None:
    database = {
        "one": record((1, 2.5, "run"), (3, 4, "jump"), subset="Training"),
        "two": {"subset": "test", "annotations": []},
        "three": {"subset": "test", "duration": None, "url": "ignored"},
    }
    found = load_annotations(write_json(tmp_path / "a.json", database))
    assert found.labels == ["jump", "run"]
    assert list(found.recordings) == ["one", "two", "three"]
    one = found.recordings["one"]
    np.testing.assert_array_equal(one.segments, [[1, 2.5], [3, 4]])
    np.testing.assert_array_equal(one.label_ids, [1, 0])
    assert (one.fps, one.duration, one.subset) == (10.0, 60.0, "Training")
    assert found.recordings["two"].segments.shape == (0, 2)
    assert found.recordings["three"].duration is None
    assert found.warnings == []
    assert found.subsets() == {"Training": 1, "test": 2}


POINTS = [
    pytest.param([point(3.0)], [[3, 3]], [True], id="a point"),
    pytest.param([event(1, 2), point(3), event(2, 2)], [[1, 2], [3, 3], [2, 2]], [False, True, False], id="both kinds"),
    pytest.param([point(3, segment=None), event(time=None)], [[3, 3], [1, 2]], [True, False], id="null is nothing"),
    pytest.param([point(0), point(10), point(10.0005)], [[0, 0], [10, 10], [10.0005, 10.0005]], [True] * 3, id="ends"),
    pytest.param([point(-0.0005)], [[-0.0005, -0.0005]], [True], id="a hair before the start"),
    pytest.param([event(1, 2)], [[1, 2]], None, id="segments only"),
    pytest.param([], [], None, id="no events"),
]


@pytest.mark.parametrize(("items", "segments", "is_point"), POINTS)
def test_a_time_is_a_segment_without_length(tmp_path: Path, items: list[Any], segments: Any, is_point: Any) -> None:
    found = load_annotations(write_json(tmp_path / "a.json", annotated(*items))).recordings["rec"]
    assert found.segments.tolist() == segments
    assert (None if found.is_point is None else found.is_point.tolist()) == is_point
    assert found.segments.shape == (len(items), 2)


def test_points_need_no_duration(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", annotated(point(1e6), duration=None))
    assert load_annotations(path).recordings["rec"].segments.tolist() == [[1e6, 1e6]]


def test_points_and_segments_share_labels(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", annotated(point(label="b"), event(label="a"), point(label="a")))
    found = load_annotations(path)
    assert found.labels == ["a", "b"]
    assert found.recordings["rec"].label_ids.tolist() == [1, 0, 0]
    with pytest.raises(EventideError, match=r"annotations\[0\]: unknown label 'b'"):
        load_annotations(path, labels=["a"])


def test_a_point_that_is_a_problem_is_left_out(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", annotated(point(-5), point(2), event(5, 4), event(6, 7)))
    found = load_annotations(path, require=False)
    assert len(found.problems) == 2
    assert found.recordings["rec"].segments.tolist() == [[2, 2], [6, 7]]
    assert found.recordings["rec"].is_point.tolist() == [True, False]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"database": annotated(event())}).encode())
    assert load_annotations(path).labels == ["a"]


LABEL_TABLES = [
    pytest.param([("b", None), ("a", None)], ["a", "b"], [1, 0], id="ids from the sorted labels"),
    pytest.param([("b", 0), ("a", 1)], ["b", "a"], [0, 1], id="ids of the file"),
    pytest.param([("b", 3), ("a", 1)], ["0", "a", "2", "b"], [3, 1], id="ids with gaps are named by number"),
    pytest.param([("b", 1), ("b", None), ("a", 0)], ["a", "b"], [1, 1, 0], id="an id given once is enough"),
    pytest.param([(None, 2), (None, 0)], ["0", "1", "2"], [2, 0], id="ids without labels"),
    pytest.param([(None, 1), ("a", 1)], ["0", "a"], [1, 1], id="a bare id of a named class"),
    pytest.param([], [], [], id="no events at all"),
]


@pytest.mark.parametrize(("pairs", "labels", "label_ids"), LABEL_TABLES)
def test_labels_and_ids(
    tmp_path: Path, pairs: list[tuple[str | None, int | None]], labels: list[str], label_ids: list[int]
) -> None:
    events = [event(label=label, label_id=label_id) for label, label_id in pairs]
    found = load_annotations(write_json(tmp_path / "a.json", annotated(*events)))
    assert found.labels == labels
    assert found.recordings["rec"].label_ids.tolist() == label_ids


def test_given_labels_match_by_name(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", annotated(event(label="b", label_id=0), event(label="a", label_id=1)))
    found = load_annotations(path, labels=["a", "b", "c"])
    assert found.labels == ["a", "b", "c"]
    assert found.recordings["rec"].label_ids.tolist() == [1, 0]
    with pytest.raises(EventideError, match=r"annotations\[0\]: unknown label 'b' \(1 annotation"):
        load_annotations(path, labels=["a"])
    bare = write_json(tmp_path / "b.json", annotated(event(label=None, label_id=4)))
    with pytest.raises(EventideError, match="label_id 4 is beyond the 2 known classes"):
        load_annotations(bare, labels=["a", "b"])


PROBLEMS = [
    pytest.param(annotated(event(3, 2)), r"recording 'rec', annotations\[0\]: .*ends \(2 s\) before", id="reversed"),
    pytest.param(annotated(event(), event(-1, 2)), r"annotations\[1\]: .*starts before the recording", id="negative"),
    pytest.param(annotated(event(10.5, 12)), "lies outside the recording, which lasts 10 s", id="wholly outside"),
    pytest.param(annotated(event(float("nan"), 2)), r"two finite numbers.*got \[NaN, 2\]", id="NaN"),
    pytest.param(annotated(event(1, float("inf"))), r"two finite numbers.*got \[1, Infinity\]", id="infinity"),
    pytest.param(annotated(event(1, 10**400)), "two finite numbers", id="too large for a float"),
    pytest.param(annotated(event("1", 2)), r'got \["1", 2\]', id="text"),
    pytest.param(annotated(event(True, 2)), r"got \[true, 2\]", id="true"),
    pytest.param(annotated({"segment": [1], "label": "a"}), r"got \[1\]", id="one number"),
    pytest.param(annotated({"segment": {"start": [1]}, "label": "a"}), "an object with more inside", id="object"),
    pytest.param(annotated({"label": "a"}), "got nothing", id="no segment"),
    pytest.param(annotated({"segment": [1, 2]}), 'neither "label" nor "label_id"', id="no label"),
    pytest.param(annotated(event(label=3)), '"label" must be text, got 3', id="label is a number"),
    pytest.param(annotated(event(label="")), '"label" must be text', id="label is empty"),
    pytest.param(annotated(event(label="\ud800")), '"label" must be text', id="label is no Unicode"),
    pytest.param(annotated(event(label_id=1.5)), '"label_id" must be a whole number', id="fractional id"),
    pytest.param(annotated(event(label_id=-1)), '"label_id" must be a whole number', id="negative id"),
    pytest.param(annotated(event(label_id=10**9)), '"label_id" must be a whole number', id="absurd id"),
    pytest.param(annotated(event(label_id=[1, 2])), '"label_id" must be a whole number', id="list of ids"),
    pytest.param(annotated(event(label_id=0), event(label_id=1)), "has label_id 1, but 0 elsewhere", id="two ids"),
    pytest.param(
        annotated(event(label_id=0), event(label="b", label_id=0)), "0 stands for 'b', but for 'a'", id="two labels"
    ),
    pytest.param(annotated(event(label_id=0), event(label="b")), "label 'b' has no label_id, while", id="some ids"),
    pytest.param(annotated("walk"), r"annotations\[0\]: expected an object, got text", id="event is text"),
    pytest.param(annotated(point(3, segment=[3, 4])), 'has both "time" and "segment"; keep "time" for', id="both"),
    pytest.param(annotated(point("3")), '"time" must be a finite number of seconds, got "3"', id="time is text"),
    pytest.param(annotated(point(True)), '"time" must be a finite number .*got true', id="time is true"),
    pytest.param(annotated(point([3])), r'"time" must be a finite number .*got \[3\]', id="time is a list"),
    pytest.param(annotated(point({"at": 3})), '"time" must be .*got an object with more', id="time is an object"),
    pytest.param(annotated(point(float("nan"))), '"time" must be .*got NaN', id="time is NaN"),
    pytest.param(annotated(point(10**400)), '"time" must be a finite number', id="time is too large for a float"),
    pytest.param(annotated(point(-0.5)), "the time lies before the recording, at -0.5 s", id="time is negative"),
    pytest.param(annotated(point(10.5)), r"the time \(10.5 s\) is after the recording, which", id="time is after"),
    pytest.param(annotated(point(3, label=None)), 'neither "label" nor "label_id"', id="point without label"),
    pytest.param(annotated(point(3, label=5)), '"label" must be text, got 5', id="label of a point is a number"),
    pytest.param(annotated({"time": None, "label": "a"}), '"time" one, of a point event.*got nothing', id="no time"),
    pytest.param({"rec": []}, "recording 'rec': expected an object, got a list", id="recording is a list"),
    pytest.param({"": record()}, "the id is empty", id="empty id"),
    pytest.param({"\udfff": record()}, "not valid Unicode", id="id is no Unicode"),
    pytest.param({"rec": {"annotations": []}}, '"subset" must be text', id="no subset"),
    pytest.param(annotated(subset=None), '"subset" must be text', id="subset is null"),
    pytest.param(annotated(duration="10"), '"duration" must be a positive number, got "10"', id="duration is text"),
    pytest.param(annotated(duration=0), '"duration" must be a positive number', id="no duration"),
    pytest.param(annotated(fps=-25), '"fps" must be a positive number, got -25', id="negative rate"),
    pytest.param({"rec": {"subset": "x", "annotations": None}}, '"annotations" must be a list, got null', id="null"),
]


@pytest.mark.parametrize(("database", "message"), PROBLEMS)
def test_problems_name_file_recording_and_annotation(tmp_path: Path, database: Any, message: str) -> None:
    path = write_json(tmp_path / "a.json", database)
    with pytest.raises(EventideError, match=message) as caught:
        load_annotations(path)
    assert str(caught.value).startswith(f"{path}: ")
    str(caught.value).encode()  # can be printed
    assert load_annotations(path, require=False).problems


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    database = annotated(event(3, 2), event(label=5), event(float("nan"), 1), fps="x") | {"other": {"subset": 3}}
    with pytest.raises(EventideError, match="5 problems") as caught:
        load_annotations(write_json(tmp_path / "a.json", database))
    assert len(str(caught.value).splitlines()) == 6
    kept = load_annotations(tmp_path / "a.json", require=False)
    assert len(kept.problems) == 5
    assert len(kept.recordings["rec"].segments) == 0


WARNINGS = [
    pytest.param(event(9, 10.0005), [], id="a rounded last digit"),
    pytest.param(event(9, 12.5), ["1 segment(s) end after their recording does, by up to 2.5 s"], id="sticks out"),
    pytest.param(event(4, 4), ["1 segment(s) shorter than 0.001 s are not used"], id="empty segment"),
    pytest.param(event(-0.0005, 1), [], id="a hair before the start"),
    pytest.param(event(10, 10), ["1 segment(s) shorter than 0.001 s"], id="empty segment at the very end"),
]


@pytest.mark.parametrize(("item", "warnings"), WARNINGS)
def test_what_published_data_sets_contain_is_a_warning(tmp_path: Path, item: Any, warnings: list[str]) -> None:
    found = load_annotations(write_json(tmp_path / "a.json", annotated(item)))
    assert len(found.warnings) == len(warnings)
    for text, start in zip(found.warnings, warnings, strict=True):
        assert text.startswith(start)
    assert found.recordings["rec"].segments.tolist() == [item["segment"]]


FILES = [
    pytest.param(b"", "is empty", id="empty"),
    pytest.param(b" \n", "is empty", id="blank"),
    pytest.param(b"\xff\xfe{\x00", "is not UTF-8 text", id="UTF-16"),
    pytest.param(b'{"database": {', "not valid JSON: .* line 1, column 15", id="cut off"),
    pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
    pytest.param(b'{"database": ' + b"9" * 5000 + b"}", "too many digits", id="thousands of digits"),
    pytest.param(b"[1]", 'object "database".* got a list', id="a list"),
    pytest.param(b"{}", "a JSON object without one", id="no database"),
    pytest.param(b'{"database": []}', '"database" is a list', id="database is a list"),
    pytest.param(b'{"results": {}}', "a results file", id="a results file"),
    pytest.param(b'{"database": {"a": {"subset": "t"}, "a": {"subset": "t"}}}', "has the key 'a' 2 times", id="twice"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_files_that_are_no_annotations(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(EventideError, match=message):
        load_annotations(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such annotation file"):
        load_annotations(tmp_path / "missing.json")
    with pytest.raises(UsageError, match="no annotation file is given"):
        load_annotations("")
    with pytest.raises(UsageError, match="is a folder; give the path of the annotation file"):
        load_annotations(tmp_path)


def test_split_ignores_case_and_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    database = {"c": record(subset="VAL"), "a": record(subset="train"), "b": record(subset="val")}
    found = load_annotations(write_json(tmp_path / "a.json", database))
    assert [recording.id for recording in split(found, ["Val"])] == ["c", "b"]
    assert [recording.id for recording in split(found, ["train", "val"])] == ["c", "a", "b"]
    assert [recording.id for recording in split(found, "train")] == ["a"]
    with pytest.raises(EventideError, match=r"subset 'trian'; subsets in the file: .*did you mean 'train'\?"):
        split(found, ["val", "trian"])
    with pytest.raises(EventideError, match="empty list of subsets"):
        split(found, [])


def test_real_annotations(shared_dir: Path) -> None:
    found = load_annotations(shared_dir / "data/hapt/segments.json")
    assert (len(found.recordings), len(found.labels), found.warnings) == (61, 12, [])
    onsets = load_annotations(shared_dir / "data/hapt/onsets.json")
    assert (len(onsets.recordings), onsets.labels, onsets.warnings) == (61, found.labels, [])
    for name, recording in onsets.recordings.items():
        assert recording.is_point.all()
        np.testing.assert_array_equal(recording.segments[:, 0], found.recordings[name].segments[:, 0])
