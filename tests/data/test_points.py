"""Samples of point events: which events, where on the grid, how wide, and what random windows do with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.config import Config
from eventide.data.dataset import EventDataset
from eventide.data.points import as_points, kind_findings, target_ranges, width_problem, without_points
from eventide.types import EventideError, Recording
from tests.data.making import hapt_config, make_data, plain_database, point_record, record, with_points


def recording(*events: tuple[float, float, int], points: list[bool] | None = None) -> Recording:
    """Events are (start, end, label id)."""
    rows = np.array(events, dtype=np.float64).reshape(-1, 3)
    is_point = None if points is None else np.array(points)
    return Recording("r", "training", 10.0, 60.0, rows[:, :2], rows[:, 2].astype(np.int64), is_point)


# Two segments of class 0 and 1, a point of class 0.
MIXED = recording((1, 3, 0), (10, 11, 1), (20, 20, 0), points=[False, False, True])
LABELS = ["clap", "jump"]

RANGES = [
    pytest.param("centre", None, [[2, 2], [10.5, 10.5], [20, 20]], id="no width is width 0"),
    pytest.param("start", None, [[1, 1], [10, 10], [20, 20]], id="starts"),
    pytest.param("end", None, [[3, 3], [11, 11], [20, 20]], id="ends"),
    pytest.param("centre", 0.5, [[1.5, 2.5], [10, 11], [19.5, 20.5]], id="one width"),
    pytest.param("centre", {"jump": 2.0}, [[2, 2], [8.5, 12.5], [20, 20]], id="a label left out has width 0"),
    pytest.param("start", {"clap": 1.0, "jump": 2.0}, [[0, 2], [8, 12], [19, 21]], id="width per label"),
    pytest.param("centre", {}, [[2, 2], [10.5, 10.5], [20, 20]], id="no label"),
    pytest.param("centre", "duration", [[1, 3], [10, 11], [20, 20]], id="half of the duration, 0 of a point"),
    pytest.param("start", "duration", [[0, 2], [9.5, 10.5], [20, 20]], id="half of the duration, at the start"),
]


@pytest.mark.parametrize(("position", "width", "expected"), RANGES)
def test_ranges(position: str, width: Any, expected: list[list[float]]) -> None:
    ranges, label_ids = target_ranges(MIXED, position, width, LABELS)
    assert ranges.tolist() == expected
    assert label_ids.tolist() == [0, 1, 0]


REPEATS = [
    pytest.param(recording(), [], id="no events"),
    pytest.param(recording((5, 5, 0), (5.0005, 5.0005, 0)), [5], id="two of one class"),
    pytest.param(recording((5, 5, 0), (5, 5, 1)), [5, 5], id="two classes"),
    pytest.param(recording((4, 6, 0), (5, 5, 0)), [5], id="the centre of a segment and a point"),
    pytest.param(recording((5, 5, 0), (5.002, 5.002, 0)), [5, 5.002], id="near is not the same"),
    pytest.param(recording((5, 5, 0), (1, 1, 0), (5, 5, 0)), [5, 1], id="not in order"),
]


@pytest.mark.parametrize(("item", "times"), REPEATS)
def test_repeats_are_dropped(item: Recording, times: list[float]) -> None:
    ranges, label_ids = target_ranges(item, "centre", None, LABELS)
    assert ranges.tolist() == [[time, time] for time in times]
    assert len(label_ids) == len(times)
    points = as_points(item, "centre")
    assert points.segments.tolist() == ranges.tolist()
    assert points.is_point is not None
    assert points.is_point.tolist() == [True] * len(times)


def test_events_of_one_kind() -> None:
    kept = without_points(MIXED)
    assert kept.segments.tolist() == [[1, 3], [10, 11]]
    assert (kept.label_ids.tolist(), kept.is_point) == ([0, 1], None)
    segments = recording((1, 2, 0))
    assert without_points(segments) is segments


FINDINGS = [
    pytest.param([MIXED, recording((1, 2, 0))], "", "1 of 4 events are point events .* left out, .*'r'", id="some"),
    pytest.param([recording((1, 1, 0), points=[True])], "set model.meta_arch: SnapFormer", "", id="all"),
    pytest.param([recording((1, 2, 0)), recording()], "", "", id="none"),
    pytest.param([], "", "", id="no recordings"),
]


@pytest.mark.parametrize(("recordings", "problem", "warning"), FINDINGS)
def test_points_where_segments_are_learnt(recordings: list[Recording], problem: str, warning: str) -> None:
    found = kind_findings(recordings, Config().resolve())
    for text, pattern in zip(found, (problem, warning), strict=True):
        assert bool(text) == bool(pattern)
    if problem:
        assert problem in found[0]
    assert re.search(warning, found[1])
    assert kind_findings(recordings, with_points(Config()).resolve()) == ("", "")


WIDTHS = [
    pytest.param(
        {"jmup": 1.0},
        r"width: 'jmup' \(did you mean 'jump'\?\) is not among the labels: 'clap', 'jump'$",
        id="misspelt",
    ),
    pytest.param({"x": 1.0, "clap": 1.0, "y": 2.0}, "width: 'x' and 1 more are not among the labels", id="unknown"),
    pytest.param({"clap": 1.0}, "", id="known"),
    pytest.param(0.5, "", id="a number"),
    pytest.param("duration", "", id="duration"),
    pytest.param(None, "", id="nothing"),
]


@pytest.mark.parametrize(("width", "message"), WIDTHS)
def test_widths_of_unknown_labels(width: Any, message: str) -> None:
    found = width_problem(width, LABELS)
    assert bool(found) == bool(message)
    assert re.search(message, found)
    assert "names the label 'x', but the classes have no names here" in width_problem({"x": 1.0}, [])


# --- samples: grid position of a time is (time * 10 - 5) / 5 = 2 * time - 1 ------------------------------------------


def dataset_of(config: Config, *, training: bool = False, subset: str = "training") -> EventDataset:
    return EventDataset(config, [subset], training=training)


def test_a_sample_of_points(tmp_path: Path) -> None:
    database = {"a": point_record((3.0, "clap"), (7.25, "jump"), (7.25, "clap"), (0.0, "jump"))}
    sample = dataset_of(with_points(make_data(tmp_path, database), width={"jump": 0.5})).sample(0)
    assert sample.segments.tolist() == [[5, 5], [12.5, 14.5], [13.5, 13.5], [-2, 0]]
    assert sample.label_ids.tolist() == [0, 1, 0, 1]
    assert str(sample.segments.dtype) == "torch.float32"


@pytest.mark.parametrize(
    ("position", "expected"), [("start", [[3, 3]]), ("centre", [[5, 5]]), ("end", [[7, 7]])], ids=str
)
def test_segments_become_points(tmp_path: Path, position: str, expected: list[list[float]]) -> None:
    config = make_data(tmp_path, {"a": record((2.0, 4.0, "clap"))}, point_position=position)
    assert dataset_of(with_points(config)).sample(0).segments.tolist() == expected
    assert dataset_of(with_points(config, width="duration")).sample(0).segments.tolist() == [
        [value - 2, value + 2] for value, _ in expected
    ]


def test_segments_of_no_length_are_points(tmp_path: Path) -> None:
    config = make_data(tmp_path, {"a": record((2.0, 2.0, "clap"), (5.0, 5.0, "jump"))})
    assert dataset_of(with_points(config)).sample(0).segments.tolist() == [[3, 3], [9, 9]]
    assert len(dataset_of(config).sample(0).segments) == 0


def test_points_are_learnt_as_one_class_where_one_is_asked_for(tmp_path: Path) -> None:
    database = {"a": point_record((3.0, "clap"), (7.0, "jump"), (3.0, "jump"))}
    config = with_points(make_data(tmp_path, database, num_classes=1), width={"jump": 1.0})
    sample = dataset_of(config).sample(0)
    assert sample.label_ids.tolist() == [0, 0, 0]
    assert sample.segments.tolist() == [[5, 5], [11, 15], [3, 7]]


def test_points_among_segments_are_left_out_and_counted(tmp_path: Path) -> None:
    database = plain_database()
    database["rec1"]["annotations"].append({"time": 5.0, "label": "clap"})
    dataset = dataset_of(make_data(tmp_path, database), training=True)
    assert len(dataset.warnings) == 1
    assert '1 of 25 events are point events ("time") and are left out' in dataset.warnings[0]
    plain = dataset_of(make_data(tmp_path, plain_database()), training=True)
    assert dataset.sample(1).segments.tolist() == plain.sample(1).segments.tolist()


def test_points_alone_cannot_be_learnt_as_segments(tmp_path: Path) -> None:
    config = make_data(tmp_path, {"a": point_record((3.0, "clap")), "b": point_record()})
    with pytest.raises(EventideError, match=r"all 1 events are point events.*set model.meta_arch: SnapFormer"):
        dataset_of(config, training=True)
    assert len(dataset_of(config).sample(0).segments) == 0  # what finds segments may run over any recording


def test_widths_of_unknown_labels_are_an_error_in_training(tmp_path: Path) -> None:
    config = with_points(make_data(tmp_path, {"a": point_record((3.0, "clap"))}), width={"clapp": 1.0})
    with pytest.raises(EventideError, match=r"heatmap.width: 'clapp' .did you mean 'clap'.*is not among"):
        dataset_of(config, training=True)
    assert dataset_of(config).sample(0).segments.tolist() == [[5, 5]]


# --- random windows -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), width=st.sampled_from([0.0, 0.3, 9.0]))
def test_windows_hold_the_points_they_show(tmp_path: Path, seed: int, width: float) -> None:
    """Every point of a window is one of the recording where it was; none that lies in the window is missing."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 59, rng.integers(1, 9)).round(3))
    config = make_data(tmp_path, {"a": point_record(*((float(time), "clap") for time in times))})
    config = with_points(config, width=width or None)
    config.seed = seed
    whole, cut = dataset_of(config), dataset_of(config, training=True)
    full = whole.sample(0)
    sample = cut.sample(0, epoch=seed % 3)
    assert len(sample.features) == 64
    start = next(i for i in range(56) if bool((full.features[i : i + 64] == sample.features).all()))
    centre, found = full.segments.mean(dim=1).numpy() - start, sample.segments.mean(dim=1).numpy()
    nearest = np.clip(centre, -start, 118 - start)
    np.testing.assert_allclose(found, centre[(nearest >= -0.5) & (nearest <= 63.5)], atol=1e-4)
    np.testing.assert_allclose((sample.segments[:, 1] - sample.segments[:, 0]).numpy(), 4 * width, atol=1e-4)
    assert len(found) > 0


def test_windows_are_those_of_their_place(tmp_path: Path) -> None:
    database = {"a": point_record((30.0, "clap"))}
    dataset = dataset_of(with_points(make_data(tmp_path, database)), training=True)
    found = {float(dataset.sample(0, epoch).segments[0, 0]) for epoch in range(20)}
    assert len(found) > 10
    again = dataset_of(with_points(make_data(tmp_path, database)), training=True)
    assert float(again.sample(0, 7).segments[0, 0]) == float(dataset.sample(0, 7).segments[0, 0])


def test_points_after_the_features_are_learnt_nowhere(tmp_path: Path) -> None:
    """20 vectors cover 10.5 s; the grid ends one step later, at 21."""
    database = {"a": point_record((5.0, "clap"), (10.9, "clap"), (11.5, "jump"), (40.0, "jump"))}
    config = with_points(make_data(tmp_path, database, {"a": 20}))
    assert dataset_of(config, training=True).sample(0).segments[:, 0].tolist() == pytest.approx([9, 20.8])
    assert len(dataset_of(config).sample(0).segments) == 4


def test_a_point_before_the_first_vector_belongs_to_it(tmp_path: Path) -> None:
    """Time 0 is position -1: half a vector before the first. Windows from the start hold it, others do not."""
    config = with_points(make_data(tmp_path, {"a": point_record((0.0, "clap"))}, {"a": 70}))
    dataset = dataset_of(config, training=True)
    for epoch in range(5):
        assert dataset.sample(0, epoch).segments.tolist() == [[-1, -1]]


def test_resized_recordings(tmp_path: Path) -> None:
    database = {"a": point_record((10.0, "clap"), (30.0, "jump"))}
    config = make_data(tmp_path, database, {"a": 119}, force_upsampling=True, feat_stride=-1, max_seq_len=32)
    sample = dataset_of(with_points(config), training=True).sample(0)
    assert sample.segments[:, 0].tolist() == pytest.approx([10 / 60 * 32 - 0.5, 15.5])


def test_real_data(shared_dir: Path) -> None:
    settings = {"feat_folder": str(shared_dir / "data/hapt/features_10hz"), "input_dim": 60, "feat_stride": 5.0}
    config = hapt_config(shared_dir, json_file=str(shared_dir / "data/hapt/onsets.json"), num_frames=10.0, **settings)
    starts = hapt_config(shared_dir, point_position="start", num_frames=10.0, **settings)
    onsets = dataset_of(with_points(config, width=0.2), training=True)
    segments = dataset_of(with_points(starts, width=0.2), training=True)
    for index in range(5):
        one, two = onsets.sample(index, 3), segments.sample(index, 3)
        assert one.segments.tolist() == two.segments.tolist()
        assert len(one.segments) > 0
