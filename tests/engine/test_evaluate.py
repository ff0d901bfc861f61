"""The score that picks the best model: segments at tIoU thresholds, points at tolerances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eventide.config import Config
from eventide.data.dataset import EventDataset
from eventide.engine.evaluate import named_values, score, table
from eventide.types import Detections, EventKind
from tests.data.making import make_data, point_record, record, with_points


def found(*rows: tuple[float, float, float, int], kind: EventKind = "points") -> Detections:
    """Rows are (start, end, score, label id)."""
    values = np.array(rows, dtype=np.float32).reshape(-1, 4)
    return Detections(values[:, :2], values[:, 2], values[:, 3].astype(np.int64), ["clap", "jump"], kind=kind)


def points(folder: Path, tolerances: list[float], **dataset: object) -> tuple[EventDataset, Config]:
    database = {
        "a": point_record((3.0, "clap"), (20.0, "jump")),
        "b": record((9.0, 11.0, "clap"), (30.0, 30.0, "jump")),
        "none": point_record(),
    }
    config = with_points(make_data(folder, database, **dataset))
    config.tolerances = tolerances
    config = config.resolve()
    return EventDataset(config, ["training"], training=False), config


def test_points_are_scored_at_tolerances(tmp_path: Path) -> None:
    """clap: one of two events at once, both within 1 s; jump: both exactly, after a false positive of more score."""
    dataset, config = points(tmp_path, [0.25, 1.0])
    detections = {
        "a": found((3.1, 3.1, 0.9, 0), (20, 20, 0.5, 1)),
        "b": found((10.8, 10.8, 0.8, 0), (30, 30, 0.4, 1)),
        "none": found((5, 5, 0.6, 1)),
    }
    metrics = score(dataset, detections, config)
    assert metrics.per_class_AP.tolist() == [[0.5, pytest.approx(2 / 3)], [1.0, pytest.approx(2 / 3)]]
    assert named_values(metrics) == {
        "mAP@0.25s": pytest.approx(7 / 12),
        "mAP@1s": pytest.approx(5 / 6),
        "average_mAP": pytest.approx(17 / 24),
    }
    assert table(metrics) == ["tolerance  0.25 s    1 s  average", "mAP (%)     58.33  83.33    70.83"]


@pytest.mark.parametrize(("position", "time"), [("start", 9.0), ("centre", 10.0), ("end", 11.0)])
def test_segments_are_scored_where_they_are_points(tmp_path: Path, position: str, time: float) -> None:
    dataset, config = points(tmp_path, [0.1], point_position=position)
    detections = {
        "a": found((3, 3, 0.9, 0), (20, 20, 0.9, 1)),
        "b": found((time, time, 0.9, 0), (30, 30, 0.9, 1)),
        "none": found(),
    }
    assert score(dataset, detections, config).average_mAP == 1.0


def test_all_classes_may_count_as_one(tmp_path: Path) -> None:
    dataset, config = points(tmp_path, [0.1], num_classes=1)
    detections = {name: found() for name in ("b", "none")} | {"a": found((3, 3, 0.9, 0), (20, 20, 0.9, 0))}
    assert score(dataset, detections, config, by_class=False).average_mAP == 0.5


def test_no_points_found_is_zero(tmp_path: Path) -> None:
    dataset, config = points(tmp_path, [0.1, 0.5])
    assert score(dataset, {name: found() for name in ("a", "b", "none")}, config).average_mAP == 0.0


def test_segments_are_scored_at_thresholds(tmp_path: Path) -> None:
    database = {"a": record((2.0, 4.0, "clap"), (9.0, 9.5, "jump"))}
    database["a"]["annotations"].append({"time": 20.0, "label": "jump"})  # no segment, so it does not count
    config = make_data(tmp_path, database)
    config.tiou_thresholds = [0.5, 0.9]
    config = config.resolve()
    dataset = EventDataset(config, ["training"], training=False)
    detections = {"a": found((2.0, 3.5, 0.9, 0), (9.0, 9.5, 0.9, 1), kind="segments")}
    metrics = score(dataset, detections, config)
    assert named_values(metrics) == {"mAP@0.5": 1.0, "mAP@0.9": 0.5, "average_mAP": 0.75}
    assert table(metrics) == ["tIoU       0.50   0.90  average", "mAP (%)  100.00  50.00    75.00"]
