"""evaluation/points.py: the published numbers, small cases by hand, and a slow version that says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.annotations import load_annotations, split
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.points import SLACK, PointMetrics, evaluate_points, to_frames
from eventide.evaluation.results import read_results
from eventide.types import Detections, EventideError, Recording

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "postprocess_and_eval"


@pytest.mark.parametrize("unit", ["seconds", "frames"])
def test_published_numbers(unit: str) -> None:
    expected = json.loads((REFERENCE / "points_expected.json").read_text(encoding="utf-8"))
    annotated = load_annotations(REFERENCE / "points_ground_truth.json")
    recordings = split(annotated, "validation")
    truth = GroundTruth.from_recordings(recordings, annotated.labels, "points")
    fps = {recording.id: recording.fps or 0.0 for recording in recordings} if unit == "frames" else None
    found = read_results(REFERENCE / "points_predictions.json")
    metrics = evaluate_points(truth, found, expected[f"tolerances_{unit}"], fps)
    assert metrics.unit == unit
    np.testing.assert_allclose(metrics.mAP, expected["mAP"], rtol=0, atol=1e-9)
    for name, precisions in expected["per_class_AP"].items():
        np.testing.assert_allclose(metrics.per_class_AP[:, metrics.classes.index(name)], precisions, rtol=0, atol=1e-9)


def ground_truth(events: Any, recordings: Any = ("a", "b")) -> GroundTruth:
    """Events are (recording, time, class)."""
    return GroundTruth.from_recordings([recording(name, events) for name in recordings], kind="points")


def recording(name: str, events: Any, fps: float | None = 10.0) -> Recording:
    own = [event for event in events if event[0] == name]
    times = np.array([event[1] for event in own], np.float64)
    ids = np.array([event[2] for event in own], np.int64)
    return Recording(name, "validation", fps, None, np.stack([times, times], axis=1), ids, np.ones(len(own), bool))


def predictions(events: Any) -> Predictions:
    """Events are (recording, time, class, score)."""
    names = list(dict.fromkeys(event[0] for event in events))
    times = np.array([event[1] for event in events], np.float64)
    return Predictions(
        recordings=names,
        recording_index=np.array([names.index(event[0]) for event in events], np.int64),
        segments=np.stack([times, times], axis=1),
        label_ids=np.array([event[2] for event in events], np.int64),
        scores=np.array([event[3] for event in events], np.float64),
        kind="points",
    )


ONE = [("a", 10.0, 0)]
PAIR = [("a", 10.0, 0), ("a", 10.6, 0)]


@pytest.mark.parametrize(
    ("label", "truth", "found", "precision", "recall", "error"),
    [
        ("exact", ONE, [("a", 10, 0, 0.9)], 1.0, 1.0, 0.0),
        ("at the tolerance", ONE, [("a", 10.5, 0, 0.9)], 1.0, 1.0, 0.5),
        ("at the tolerance, but for rounding", ONE, [("a", 9.5 - 1e-9, 0, 0.9)], 1.0, 1.0, 0.5),
        ("beyond the tolerance", ONE, [("a", 10.501, 0, 0.9)], 0.0, 0.0, None),
        ("second detection of one event is false", ONE, [("a", 10, 0, 0.9), ("a", 10.1, 0, 0.8)], 1.0, 1.0, 0.0),
        ("a better-scored miss halves precision", ONE, [("a", 50, 0, 0.9), ("a", 10, 0, 0.8)], 0.5, 1.0, 0.0),
        ("the earlier one of equal scores comes first", ONE, [("a", 50, 0, 0.9), ("a", 10, 0, 0.9)], 0.5, 1.0, 0.0),
        ("the same event in another recording", ONE, [("b", 10, 0, 0.9)], 0.0, 0.0, None),
        ("outside the split is false", ONE, [("x", 10, 0, 0.9), ("a", 10, 0, 0.8)], 0.5, 1.0, 0.0),
        ("another class", ONE, [("a", 10, 1, 0.9)], 0.0, 0.0, None),
        ("no predictions", ONE, [], 0.0, 0.0, None),
        ("the nearest is taken", PAIR, [("a", 10.4, 0, 0.9), ("a", 9.9, 0, 0.8)], 1.0, 1.0, 0.15),
        (
            "when the nearest is taken, the next counts",
            PAIR,
            [("a", 10.5, 0, 0.9), ("a", 10.4, 0, 0.8)],
            1.0,
            1.0,
            0.25,
        ),
        ("the nearest free one is too far", PAIR, [("a", 10.8, 0, 0.9), ("a", 10.9, 0, 0.8)], 0.5, 0.5, 0.2),
        ("of events at one distance the first listed", PAIR, [("a", 10.3, 0, 0.9), ("a", 10.9, 0, 0.8)], 1.0, 1.0, 0.3),
        (
            "the same, listed the other way round",
            PAIR[::-1],
            [("a", 10.3, 0, 0.9), ("a", 10.9, 0, 0.8)],
            0.5,
            0.5,
            0.3,
        ),
        ("mean over classes", [*ONE, ("b", 10, 1)], [("a", 10, 0, 0.9)], 0.5, 0.5, 0.0),
        ("repeats within a millisecond are one", [*ONE, ("a", 10.0009, 0)], [("a", 10, 0, 0.9)], 1.0, 1.0, 0.0),
        (
            "events of two classes at one time",
            [*ONE, ("a", 10, 1)],
            [("a", 10, 0, 0.9), ("a", 10, 1, 0.9)],
            1.0,
            1.0,
            0,
        ),
    ],
)
def test_small_cases(label: str, truth: Any, found: Any, precision: float, recall: float, error: float | None) -> None:
    metrics = evaluate_points(ground_truth(truth), predictions(found), [0.5])
    assert metrics.average_mAP == pytest.approx(precision)
    assert metrics.mean_recall[0] == pytest.approx(recall)
    assert metrics.timing_error[0] == pytest.approx(error)
    json.dumps(metrics.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("label", "time", "tolerance", "hit"),
    [
        ("same frame", 10.04, 0, True),
        ("next frame", 10.06, 0, False),
        ("next frame, tolerance of one", 10.14, 1, True),
        ("two frames away", 10.16, 1, False),
        ("half a frame is rounded up", 9.95, 0, True),
        ("half a frame, but for rounding", 9.95 - 1e-9, 0, True),
    ],
)
def test_frames(label: str, time: float, tolerance: int, hit: bool) -> None:
    metrics = evaluate_points(
        ground_truth(ONE), predictions([("a", time, 0, 0.9)]), [tolerance], {"a": 10.0, "b": 25.0}
    )
    assert metrics.average_mAP == float(hit)
    assert metrics.timing_error == [pytest.approx(abs(time - 10))] if hit else [None]
    assert metrics.to_dict()["tolerance_unit"] == "frames"


def test_frames_of_recordings_that_nobody_knows() -> None:
    found = predictions([("x", 3.0, 0, 0.9), ("a", 10.0, 0, 0.8)])
    assert to_frames(found, {"a": 25.0}).tolist() == [0, 250]
    assert evaluate_points(ground_truth(ONE), found, [0], {"a": 25.0, "b": 25.0}).average_mAP == 0.5


@pytest.mark.parametrize(("label", "found"), [("predictions", [("a", 1, 0, 0.5)]), ("nothing at all", [])])
def test_without_ground_truth_everything_is_zero(label: str, found: Any) -> None:
    for recordings in ((), ("a", "b")):
        metrics = evaluate_points(ground_truth([], recordings), predictions(found), [0.5, 1.0])
        assert metrics.mAP.tolist() == [0, 0]
        assert metrics.average_mAP == 0
        assert metrics.mean_recall.tolist() == [0, 0]
        assert metrics.timing_error == [None, None]
        json.dumps(metrics.to_dict(), allow_nan=False)


def test_counts() -> None:
    truth = ground_truth([*ONE, *ONE, ("b", 0, 3)])
    found = predictions([("a", 0, 0, 0.5), ("a", 0, 9, 0.5), ("x", 0, 3, 0.5)])
    metrics = evaluate_points(truth, found, [0.5])
    assert metrics.counts == {
        "recordings": 2,
        "recordings_with_predictions": 1,
        "ground_truth": 2,
        "ground_truth_dropped": 1,
        "ground_truth_of_other_kind": 0,
        "predictions": 3,
        "predictions_outside_split": 1,
        "predictions_of_unknown_class": 1,
    }
    assert metrics.classes == ["0", "3"]
    assert metrics.num_ground_truth.tolist() == [1, 1]
    assert metrics.num_predictions.tolist() == [1, 1]


@pytest.mark.parametrize("tolerances", [[], [-0.1], [float("inf")], [float("nan"), 1.0]])
def test_tolerances_must_make_sense(tolerances: list[float]) -> None:
    with pytest.raises(ValueError, match="tolerances are finite"):
        evaluate_points(ground_truth(ONE), predictions([]), tolerances)


def test_segments_are_no_points() -> None:
    found = predictions([("a", 10, 0, 0.9)])
    found.segments[0, 1] += 1
    with pytest.raises(ValueError, match="segments cannot be scored as points"):
        evaluate_points(ground_truth(ONE), found, [1.0])


def test_labels_against_ids_is_an_error() -> None:
    found = predictions([("a", 10, 0, 0.9)])
    found = Predictions(**{**vars(found), "label_ids": None, "label_index": np.array([0]), "labels": ["snap"]})
    with pytest.raises(EventideError, match="predictions name their classes by label"):
        evaluate_points(ground_truth(ONE), found, [0.5])


def test_detections_of_the_engine() -> None:
    detections = {
        "a": Detections(np.full((1, 2), 10, np.float32), np.array([0.5], np.float32), np.array([0]), kind="points"),
        "b": Detections(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), kind="points"),
    }
    found = Predictions.from_detections(detections)
    assert found.kind == "points"
    assert evaluate_points(ground_truth(ONE), found, [0.5]).average_mAP == 1.0
    assert evaluate_points(ground_truth(ONE), Predictions.from_detections({}), [0.5]).average_mAP == 0.0


MIXED = Recording(
    "a",
    "",
    None,
    None,
    np.array([[1, 3], [2, 2], [5, 5], [4, 6.0]]),
    np.array([0, 0, 1, 1]),
    np.array([False, True, True, False]),
)


@pytest.mark.parametrize(
    ("label", "kind", "position", "segments", "dropped", "other"),
    [
        ("segments", "segments", "centre", [[1, 3], [4, 6]], 0, 2),
        ("points at the start", "points", "start", [[1, 1], [2, 2], [5, 5], [4, 4]], 0, 2),
        ("points at the end", "points", "end", [[3, 3], [2, 2], [5, 5], [6, 6]], 0, 2),
        ("points at the centre, where others are", "points", "centre", [[2, 2], [5, 5]], 2, 2),
    ],
)
def test_kinds_of_ground_truth(
    label: str, kind: Any, position: Any, segments: list[list[float]], dropped: int, other: int
) -> None:
    truth = GroundTruth.from_recordings([MIXED], kind=kind, position=position)
    assert truth.kind == kind
    assert truth.segments.tolist() == segments
    assert (truth.num_dropped, truth.num_other_kind) == (dropped, other)


EVENT = st.tuples(
    st.sampled_from(["a", "b"]), st.integers(0, 60), st.integers(0, 2), st.sampled_from([0.2, 0.5, 0.8])
).map(lambda e: (e[0], e[1] / 4, e[2], e[3]))
EVENTS = st.lists(EVENT, max_size=20)


def slow_precisions(truth: GroundTruth, found: Predictions, tolerance: float) -> tuple[list[float], list[float]]:
    """AP and recall per class, one detection after another."""
    precisions, recalls = [], []
    names = np.array(truth.recordings or ["-"])[truth.recording_index]
    found_names = np.array(found.recordings or ["-"])[found.recording_index]
    for label_id in np.unique(truth.label_ids):
        events = np.flatnonzero(truth.label_ids == label_id)
        free = set(events.tolist())
        verdicts = []
        for i in sorted(np.flatnonzero(found.label_ids == label_id), key=lambda i: -found.scores[i]):
            here = [g for g in sorted(free) if names[g] == found_names[i]]
            distances = [abs(found.segments[i, 0] - truth.segments[g, 0]) for g in here]
            best = next((g for g, d in zip(here, distances, strict=True) if d <= min(distances) + SLACK), None)
            verdicts.append(best is not None and min(distances) <= tolerance + SLACK)
            free -= {best} if verdicts[-1] else set()
        precision = [sum(verdicts[: i + 1]) / (i + 1) for i in range(len(verdicts))]
        precisions.append(sum(max(precision[i:]) for i, right in enumerate(verdicts) if right) / len(events))
        recalls.append(sum(verdicts) / len(events))
    return precisions, recalls


def metrics_of(truth_events: Any, found_events: Any, tolerances: list[float]) -> PointMetrics:
    return evaluate_points(ground_truth([event[:3] for event in truth_events]), predictions(found_events), tolerances)


@given(EVENTS, EVENTS, st.sampled_from([0.0, 0.25, 0.5, 3.0]))
def test_equals_the_slow_version(truth_events: Any, found_events: Any, tolerance: float) -> None:
    truth, found = ground_truth([event[:3] for event in truth_events]), predictions(found_events)
    metrics = evaluate_points(truth, found, [1.0, tolerance])
    precisions, recalls = slow_precisions(truth, found, tolerance)
    np.testing.assert_allclose(metrics.per_class_AP[1], precisions, atol=1e-12)
    np.testing.assert_allclose(metrics.recall[1], recalls, atol=1e-12)
    frames = evaluate_points(truth, found, [4 * tolerance], {"a": 4.0, "b": 4.0})
    np.testing.assert_allclose(frames.per_class_AP[0], precisions, atol=1e-12)  # every time is a frame here


@given(EVENTS, EVENTS)
def test_laws(truth_events: Any, found_events: Any) -> None:
    metrics = metrics_of(truth_events, found_events, [0.0, 0.25, 1.0])
    assert ((metrics.per_class_AP >= 0) & (metrics.per_class_AP <= 1)).all()
    assert ((metrics.recall >= 0) & (metrics.recall <= 1)).all()
    for tolerance, errors in zip(metrics.tolerances, metrics.per_class_timing_error, strict=True):
        assert all(error is None or 0 <= error <= tolerance + SLACK for error in errors)
    perfect = metrics_of(truth_events, [(*event[:3], 0.5) for event in truth_events], [0.0])
    assert perfect.mean_recall[0] == (1.0 if truth_events else 0.0)
    rescored = metrics_of(truth_events, [(*event[:3], event[3] * 0.5) for event in found_events], [0.0, 0.25, 1.0])
    np.testing.assert_array_equal(rescored.mAP, metrics.mAP)


@given(EVENTS, EVENTS)
def test_a_wider_tolerance_finds_no_less_of_events_far_apart(truth_events: Any, found_events: Any) -> None:
    """Where no detection is near two events, whatever one tolerance finds a wider one does. (In crowds it need not: the
    nearest free event depends on what better detections took.)
    """
    apart = [(name, 8 * time, label, score) for name, time, label, score in truth_events]
    near = [(name, 8 * time + score, label, score) for name, time, label, score in found_events]
    metrics = metrics_of(apart, near, [0.0, 0.3, 0.6, 0.9])
    assert (np.diff(metrics.recall, axis=0) >= 0).all()
    assert (np.diff(metrics.per_class_AP, axis=0) >= -1e-12).all()
