"""One pass over a data set: every problem at once, and the tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.config import Config
from eventide.data.check_report import CheckReport
from eventide.data.checks import check_dataset
from tests.data.making import (
    hapt_config,
    make_config,
    make_data,
    plain_database,
    point_record,
    record,
    with_points,
    write_features,
    write_json,
)


def texts(report: CheckReport) -> str:
    return "\n".join(report.problems + report.warnings)


def test_a_sound_data_set(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_dataset(make_data(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert report.problems == []
    assert report.warnings == []
    assert seen == [(done, 9) for done in range(1, 10)]
    training, validation = report.splits
    assert (training.recordings, training.negatives, training.events, training.missing) == (7, 1, 24, 0)
    assert (training.vectors_min, training.vectors_median, training.vectors_max) == (113, 116, 119)
    assert training.hours == pytest.approx(7 * 60 / 3600)
    assert (validation.recordings, validation.events) == (2, 3)
    assert [(item.label, item.events) for item in report.classes] == [
        ("clap", {"training": 12, "validation": 2}),
        ("jump", {"training": 12, "validation": 1}),
    ]
    json.dumps(report.to_dict())


@pytest.mark.parametrize(("subset", "key"), [("training", "train_split"), ("validation", "val_split")])
def test_a_split_without_events_is_told(tmp_path: Path, subset: str, key: str) -> None:
    database = plain_database()
    for item in database.values():
        if item["subset"].lower() == subset:
            item["annotations"] = []
    report = check_dataset(make_data(tmp_path, database))
    assert report.problems == []
    assert len([text for text in report.warnings if f"{key} has no events: " in text]) == 1


def test_levels_and_events_without_a_point(tmp_path: Path) -> None:
    """Two vectors per second: 2, 5 and 0.2 s are 4, 10 and 0.4 steps; the fourth event loses to the first."""
    database = {
        "a": record((3.0, 5.0, "x"), (10, 15, "x"), (20.55, 20.75, "x"), (2.75, 5.25, "y")),
        "v": record((1, 2, "x"), subset="validation"),
    }
    config = make_data(tmp_path, database)
    report = check_dataset(config)
    assert [(level.stride, level.nearest, level.farthest) for level in report.levels[:3]] == [
        (1, 0, 4),
        (2, 4, 8),
        (4, 8, 16),
    ]
    assert [level.events for level in report.levels] == [2, 1, 1, 0, 0, 0]
    assert report.levels[1].share == 0.25
    assert report.levels[1].seconds["p50"] == 5.0
    assert report.levels[3].seconds == {}
    assert (report.points.events, report.points.without_point, report.points.lost_to_shorter) == (4, 1, 1)
    assert report.points.share == 0.5
    assert report.points.seconds["p50"] == pytest.approx(1.35)
    config.train_cfg.center_sample = "none"
    assert check_dataset(config).points.without_point == 1


def damage_prefix(folder: Path) -> None:
    (folder / "features" / "rec2.npy").rename(folder / "features" / "v_rec2.npy")


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "features" / name, array)


def with_nan() -> np.ndarray:
    array = np.zeros((50, 4), np.float16)
    array[20, 1] = np.nan
    return array


DAMAGES = [
    pytest.param(damage_prefix, r"recording 'rec2': no feature file .*set dataset.file_prefix to 'v_'", id="missing"),
    pytest.param(save("rec1.npy", np.zeros((50, 3), np.float32)), r"recording 'rec1': .*has 3 channels", id="wrong C"),
    pytest.param(save("rec1.npy", with_nan()), r"rec1.npy: 1 values are NaN or Inf, .* vector 20, channel 1", id="NaN"),
    pytest.param(save("rec1.npy", np.zeros((4, 50), np.float32)), r"looks like \(C, T\)", id="transposed"),
    pytest.param(lambda folder: (folder / "features" / "val0.npy").write_bytes(b"\x93NUMPY"), "val0.npy: ", id="cut"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_problems_of_features(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    config = make_data(tmp_path)
    damage(tmp_path)
    report = check_dataset(config)
    assert len(report.problems) == 1
    assert re.search(message, report.problems[0])


def test_everything_at_once(tmp_path: Path) -> None:
    database = plain_database() | {
        "rec1": record((5, 3, "clap"), (70, 80, "clap")),
        "rec2": record((1, 2, "wave"), (4, 5.0, "clap"), fps=None),
        "other": record(subset="testing"),
    }
    config = make_data(tmp_path, database)
    (tmp_path / "features" / "rec3.npy").unlink()
    write_features(tmp_path / "features", {"rec4": 90}, channels=3)
    np.save(tmp_path / "features" / "rec5.npy", with_nan())
    config.train_split = ["training", "Testin"]
    report = check_dataset(config)
    for part in (
        "recording 'rec1', annotations[0]: the segment ends (3 s) before it starts (5 s)",
        "recording 'rec1', annotations[1]: the segment (70 to 80 s) lies outside",
        "train_split: no recordings in subset 'Testin'; subsets in the file: 'training' (7), 'validation' (1), "
        "'Validation' (1), 'testing' (1); did you mean 'testing'?",
        "label ids go up to 2, but dataset.num_classes is 2: no class for wave (2); set dataset.num_classes to 3; "
        "first in recording 'rec2'",
        "recording 'rec2': no \"fps\"",
        "recording 'rec3': no feature file",
        "recording 'rec4': ",
        "1 values are NaN or Inf",
    ):
        assert part in texts(report)
    assert len(report.problems) == 8
    assert report.splits[0].missing == 1


def test_what_cannot_be_opened_is_a_problem_too(tmp_path: Path) -> None:
    report = check_dataset(make_config(tmp_path))
    assert len(report.problems) == 2
    assert "no such annotation file" in report.problems[0]
    assert "dataset.feat_folder" in report.problems[1]
    write_json(tmp_path / "annotations.json", plain_database())
    report = check_dataset(make_config(tmp_path))
    assert len(report.problems) == 1
    assert report.splits[0].events == 24


def test_missing_features_may_be_skipped(tmp_path: Path) -> None:
    config = make_data(tmp_path, missing="skip")
    (tmp_path / "features" / "rec3.npy").unlink()
    report = check_dataset(config)
    assert report.problems == []
    assert report.warnings == ["1 recording(s) without features are skipped: 'rec3'"]


def test_headers_only_skips_the_values(tmp_path: Path) -> None:
    config = make_data(tmp_path)
    np.save(tmp_path / "features" / "rec5.npy", with_nan())
    assert check_dataset(config, scan_values=False).problems == []


def warn_empty(folder: Path) -> Config:
    return make_data(folder, num_classes=4)


def warn_excluded(folder: Path) -> Config:
    config = make_data(folder)
    config.train_cfg.head_empty_cls = [1]
    return config


def warn_both(folder: Path) -> Config:
    config = make_data(folder)
    config.val_split = ["VALIDATION", "training"]
    return config


WARNINGS = [
    pytest.param(
        warn_empty, r"2 class\(es\) without examples in training: 2, 3; .*head_empty_cls to \[2, 3\]", id="no examples"
    ),
    pytest.param(warn_excluded, r"head_empty_cls lists classes that have training examples: \[1\]", id="excluded"),
    pytest.param(warn_both, r"7 recording\(s\) are in both train_split and val_split.*'rec0', 'rec1'", id="both"),
    pytest.param(
        lambda folder: make_data(folder, plain_database() | {"rec1": record((1, 1.3, "clap"), (2, 2.5, "clap"))}),
        r"1 event\(s\) in 1 recording\(s\) are shorter than one grid step.*'rec1' \(1\)",
        id="short events",
    ),
    pytest.param(
        lambda folder: make_data(folder, plain_database() | {"rec1": record((55, 70, "clap"))}),
        r"1 segment\(s\) end after their recording does, by up to 10 s",
        id="sticks out",
    ),
    pytest.param(
        lambda folder: make_data(folder, feat_stride=1.0, num_frames=1.0),
        r"features of 9 recording\(s\) cover another time than their duration \(wrong fps or feat_stride\?\): 'rec0'",
        id="wrong stride",
    ),
    pytest.param(
        lambda folder: make_data(folder, feat_stride=1.0, num_frames=1.0),
        r"event\(s\) in \d recording\(s\) are after the last feature vector",
        id="beyond the features",
    ),
]


@pytest.mark.parametrize(("make", "message"), WARNINGS)
def test_warnings(tmp_path: Path, make: Callable[[Path], Config], message: str) -> None:
    report = check_dataset(make(tmp_path))
    assert report.problems == []
    assert re.search(message, texts(report))


# --- point events: vectors are half a second apart ------------------------------------------------------------------


def point_data(folder: Path, database: dict[str, Any] | None = None, **heatmap: Any) -> Config:
    if database is None:
        database = {
            "a": point_record((3.0, "clap"), (5.25, "jump"), (4.5, "clap"), (3.0, "clap")),
            "b": point_record((1.0, "jump"), (1.0, "clap"), (9.0, "jump")),
            "v": record((2.0, 2.2, "clap"), (2.0, 3.0, "jump"), subset="validation"),
        }
    return with_points(make_data(folder, database), **heatmap)


def test_a_sound_data_set_of_points(tmp_path: Path) -> None:
    report = check_dataset(point_data(tmp_path))
    assert report.problems == report.warnings == []
    assert (report.events, report.grid_step, report.levels) == ("points", 0.5, [])
    assert [item.events for item in report.splits] == [6, 2]
    assert [(item.label, item.events, item.smallest_gap) for item in report.classes] == [
        ("clap", {"training": 3, "validation": 1}, 1.5),
        ("jump", {"training": 3, "validation": 1}, 8.0),
    ]
    json.dumps(report.to_dict())


def test_the_step_of_a_coarser_heatmap(tmp_path: Path) -> None:
    config = point_data(tmp_path)
    config.model.fpn_start_level = 2
    report = check_dataset(config)
    assert report.grid_step == 2.0
    assert len(report.warnings) == 1
    assert re.search(
        r"1 pair\(s\) of points .* grid steps \(2 s each\).* two steps \(4 s\).*'clap' in 'a' at 3 and 4.5 s",
        report.warnings[0],
    )


# Position g of the grid is at second 0.5 g + 0.5.
CLOSE = [
    pytest.param([(3.5, "clap"), (3.6, "clap")], 2, "1 pair(s)", id="the same position"),
    pytest.param([(3.5, "clap"), (3.6, "jump")], 2, "", id="two classes"),
    pytest.param([(3.5, "clap"), (3.6, "jump")], 1, "1 pair(s)", id="two classes learnt as one"),
    pytest.param([(3.5, "clap"), (4.0, "clap")], 2, "1 pair(s)", id="one step apart"),
    pytest.param([(3.5, "clap"), (4.2, "clap")], 2, "1 pair(s)", id="positions 6 and 7.4"),
    pytest.param([(3.5, "clap"), (4.3, "clap")], 2, "", id="positions 6 and 7.6"),
    pytest.param([(3.3, "clap"), (4.2, "clap")], 2, "1 pair(s)", id="positions 5.6 and 7.4"),
    pytest.param([(3.5, "clap"), (4.5, "clap")], 2, "", id="two steps apart"),
    pytest.param([(3.5, "clap"), (3.5004, "clap")], 2, "", id="a repeat"),
    pytest.param([(3.4, "clap"), (3.1, "clap"), (3.2, "clap"), (9.0, "clap")], 2, "2 pair(s)", id="not in order"),
    pytest.param([(500.0, "clap"), (3.0, "jump"), (3.2, "jump")], 2, "1 pair(s)", id="one beyond the features"),
    pytest.param([], 2, "", id="no points"),
]


@pytest.mark.parametrize(("points", "classes", "message"), CLOSE)
def test_points_that_cannot_be_told_apart(
    tmp_path: Path, points: list[tuple[float, str]], classes: int, message: str
) -> None:
    database = {"a": point_record((20.0, "clap"), (30.0, "jump")), "b": point_record(*points)}
    config = point_data(tmp_path, database | {"v": point_record((1.0, "jump"), subset="validation")})
    config.dataset.num_classes = classes
    found = [text for text in check_dataset(config).warnings if "after the last" not in text]
    assert len(found) == bool(message)
    if message:
        assert f"{message} of points of one class are nearest to the same or to neighbouring grid steps" in found[0]
        assert "(0.5 s each)" in found[0]
        assert "in 'b' at 3" in found[0]


def test_widths_of_unknown_labels(tmp_path: Path) -> None:
    report = check_dataset(point_data(tmp_path, width={"clap": 0.1, "jum": 0.2}))
    assert len(report.problems) == 1
    assert "heatmap.width: 'jum' (did you mean 'jump'?) is not among the labels: 'clap', 'jump'" in report.problems[0]


def test_points_where_segments_are_learnt(tmp_path: Path) -> None:
    database = plain_database()
    database["rec1"]["annotations"] += [{"time": 5.0, "label": "clap"}, {"time": 6.0, "label": "clap"}]
    report = check_dataset(make_data(tmp_path, database))
    assert report.problems == []
    assert len(report.warnings) == 1
    assert "2 of 29 events are point events" in report.warnings[0]
    assert report.splits[0].events == 24
    config = point_data(tmp_path)
    config.model.meta_arch = "TBTFormer"
    write_json(tmp_path / "annotations.json", {"a": point_record((1, "clap"), (2, "jump")), "v": database["val0"]})
    assert "2 of 3 events are point events" in texts(check_dataset(config))
    for item in database.values():
        item["annotations"] = [{"time": 5.0, "label": "clap"}, {"time": 50.0, "label": "jump"}]
    write_json(tmp_path / "annotations.json", database)
    report = check_dataset(config)
    assert report.warnings == []
    assert len(report.problems) == 1
    assert "all 18 events are point events" in report.problems[0]
    assert "but model.meta_arch TBTFormer learns segments; set model.meta_arch: SnapFormer" in report.problems[0]


def test_points_after_the_features(tmp_path: Path) -> None:
    database = {"a": point_record((30.0, "clap"), (59.9, "jump")), "v": point_record((1, "jump"), subset="validation")}
    config = point_data(tmp_path, database)
    write_features(tmp_path / "features", {"a": 100})
    assert "1 event(s) in 1 recording(s) are after the last feature vector: 'a' (1)" in texts(check_dataset(config))


def test_proposals_have_no_class_problems(tmp_path: Path) -> None:
    report = check_dataset(make_data(tmp_path, num_classes=1))
    assert report.problems == report.warnings == []
    assert [item.label for item in report.classes] == ["clap", "jump"]


def test_real_data(shared_dir: Path) -> None:
    report = check_dataset(hapt_config(shared_dir))
    assert report.problems == report.warnings == []
    assert [item.events for item in report.splits] == [849, 365]
    assert report.points.share == 0


def test_real_points(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "hapt"
    files = {"json_file": str(folder / "onsets.json"), "feat_folder": str(folder / "features_10hz")}
    config = hapt_config(shared_dir, **files, input_dim=60, feat_stride=5.0, num_frames=10.0)
    report = check_dataset(with_points(config))
    assert report.problems == report.warnings == []
    assert [item.events for item in report.splits] == [849, 365]
    assert report.grid_step == 0.1
    assert "all 1214 events are point events" in texts(check_dataset(config))
