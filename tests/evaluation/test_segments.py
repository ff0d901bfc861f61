"""evaluation/segments.py against the published numbers, against a slow plain version, and its laws."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.annotations import load_annotations, split
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.protocols import PROTOCOLS
from eventide.evaluation.results import read_results
from eventide.evaluation.segments import evaluate_segments
from eventide.types import Detections, EventideError, Recording

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "postprocess_and_eval"
EXPECTED = json.loads((REFERENCE / "eval_expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("protocol", EXPECTED)
def test_published_numbers(protocol: str) -> None:
    expected = EXPECTED[protocol]
    annotated = load_annotations(REFERENCE / "eval_ground_truth.json")
    truth = GroundTruth.from_recordings(split(annotated, expected["split"]), annotated.labels)
    found = evaluate_segments(truth, read_results(REFERENCE / "eval_predictions.json"), PROTOCOLS[protocol]).to_dict()
    for key in ("tiou_thresholds", "mAP", "average_mAP", "recall_at_1x", "recall_at_5x", "per_class_AP"):
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=1e-9, err_msg=key)


def ground_truth(events: list[tuple[str, float, float, int]], recordings: tuple[str, ...] = ("a", "b")) -> GroundTruth:
    """Ground truth of (recording, start, end, label id)."""
    return GroundTruth.from_recordings(
        [
            Recording(
                name,
                "validation",
                None,
                None,
                np.array([event[1:3] for event in events if event[0] == name], np.float64).reshape(-1, 2),
                np.array([event[3] for event in events if event[0] == name], np.int64),
            )
            for name in recordings
        ]
    )


def predictions(events: list[tuple[str, float, float, int, float]]) -> Predictions:
    """Predictions of (recording, start, end, label id, score), in this order."""
    names = sorted({event[0] for event in events})
    return Predictions(
        recordings=names,
        recording_index=np.array([names.index(event[0]) for event in events], np.int64),
        segments=np.array([event[1:3] for event in events], np.float64).reshape(-1, 2),
        label_ids=np.array([event[3] for event in events], np.int64),
        scores=np.array([event[4] for event in events], np.float64),
    )


ONE = [("a", 0.0, 10.0, 0)]


@pytest.mark.parametrize(
    ("label", "truth", "found", "precision", "recall_at_1x"),
    [
        ("perfect", ONE, [("a", 0, 10, 0, 0.9)], 1.0, 1.0),
        ("overlap at the threshold counts", ONE, [("a", 0, 5, 0, 0.9)], 1.0, 1.0),
        ("overlap below the threshold", ONE, [("a", 0, 4.9, 0, 0.9)], 0.0, 0.0),
        ("second detection of one event is false", ONE, [("a", 0, 10, 0, 0.9), ("a", 0, 9, 0, 0.8)], 1.0, 1.0),
        ("a better-scored miss halves precision", ONE, [("a", 50, 60, 0, 0.9), ("a", 0, 10, 0, 0.8)], 0.5, 0.0),
        ("the later one of equal scores comes first", ONE, [("a", 50, 60, 0, 0.9), ("a", 0, 10, 0, 0.9)], 1.0, 1.0),
        ("the same event in another recording", ONE, [("b", 0, 10, 0, 0.9)], 0.0, 0.0),
        ("outside the split is false", ONE, [("x", 0, 10, 0, 0.9), ("a", 0, 10, 0, 0.8)], 0.5, 1.0),
        ("another class", ONE, [("a", 0, 10, 1, 0.9)], 0.0, 0.0),
        ("without length", ONE, [("a", 5, 5, 0, 0.9)], 0.0, 0.0),
        ("no predictions", ONE, [], 0.0, 0.0),
        ("half of the events found", [*ONE, ("a", 20, 30, 0)], [("a", 0, 10, 0, 0.9)], 0.5, 0.5),
        (
            "when the best event is taken, the next best counts",
            [("a", 0, 10, 0), ("a", 2, 12, 0)],
            [("a", 0, 10, 0, 0.9), ("a", 1, 10.5, 0, 0.8)],
            1.0,
            1.0,
        ),
        ("mean over classes", [*ONE, ("b", 0, 10, 1)], [("a", 0, 10, 0, 0.9)], 0.5, 0.5),
        ("repeated and short events do not count", [*ONE, *ONE, ("a", 3, 3.0004, 0)], [("a", 0, 10, 0, 0.9)], 1.0, 1.0),
    ],
)
def test_small_cases(label: str, truth: Any, found: Any, precision: float, recall_at_1x: float) -> None:
    metrics = evaluate_segments(ground_truth(truth), predictions(found), [0.5])
    assert metrics.average_mAP == pytest.approx(precision)
    assert metrics.recall[0, 0] == pytest.approx(recall_at_1x)


@pytest.mark.parametrize(("label", "found"), [("predictions", [("a", 0, 1, 0, 0.5)]), ("nothing at all", [])])
def test_without_ground_truth_everything_is_zero(label: str, found: Any) -> None:
    for recordings in ((), ("a", "b")):
        metrics = evaluate_segments(ground_truth([], recordings), predictions(found), [0.3, 0.5])
        assert metrics.mAP.tolist() == [0, 0]
        assert metrics.average_mAP == 0
        assert metrics.recall.tolist() == [[0, 0], [0, 0]]
        json.dumps(metrics.to_dict(), allow_nan=False)


def test_counts() -> None:
    truth = ground_truth([*ONE, *ONE, ("b", 0, 10, 3)])
    found = predictions([("a", 0, 1, 0, 0.5), ("a", 0, 1, 9, 0.5), ("x", 0, 1, 3, 0.5)])
    metrics = evaluate_segments(truth, found, [0.5])
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


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.1], [-0.5, 0.5], [float("nan")]])
def test_thresholds_must_make_sense(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="tIoU thresholds"):
        evaluate_segments(ground_truth(ONE), predictions([]), thresholds)


def test_detections_of_the_engine() -> None:
    detections = {
        "a": Detections(np.array([[0, 10]], np.float32), np.array([0.5], np.float32), np.array([0])),
        "b": Detections(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)),
    }
    assert evaluate_segments(ground_truth(ONE), Predictions.from_detections(detections), [0.5]).average_mAP == 1.0
    assert evaluate_segments(ground_truth(ONE), Predictions.from_detections({}), [0.5]).average_mAP == 0.0


def named(events: Any, labels: list[str]) -> Any:
    """The same events with labels, whose ids are the places in `labels`."""
    kind = type(events)
    return kind(**{**vars(events), "label_index": events.label_ids, "labels": labels})


@pytest.mark.parametrize(
    ("label", "truth_labels", "found_labels", "precision", "by_label"),
    [
        ("by label where both have them, whatever the ids", ["walk", "run"], ["run", "walk"], 0.0, True),
        ("by id where the ground truth has none", None, ["run", "walk"], 1.0, False),
        ("by id where the predictions have none", ["walk", "run"], None, 1.0, False),
    ],
)
def test_classes_are_matched(
    label: str, truth_labels: list[str] | None, found_labels: list[str] | None, precision: float, by_label: bool
) -> None:
    truth = ground_truth([("a", 0, 10, 0), ("a", 20, 30, 1)])
    found = predictions([("a", 0, 10, 0, 0.9), ("a", 20, 30, 1, 0.9)])
    metrics = evaluate_segments(
        named(truth, truth_labels) if truth_labels else truth,
        named(found, found_labels) if found_labels else found,
        [0.5],
    )
    assert metrics.average_mAP == precision
    assert metrics.by_label == by_label


def test_labels_against_ids_is_an_error() -> None:
    found = named(predictions([("a", 0, 10, 0, 0.9)]), ["walk"])
    found = Predictions(**{**vars(found), "label_ids": None})
    with pytest.raises(EventideError, match="predictions name their classes by label, the ground truth by label_id"):
        evaluate_segments(ground_truth(ONE), found, [0.5])


EVENT = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 20),
    st.integers(1, 8),
    st.integers(0, 2),
    st.sampled_from([0.2, 0.5, 0.8]),
).map(lambda e: (e[0], float(e[1]), float(e[1] + e[2]), e[3], e[4]))


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Temporal intersection over union of two segments; 0 where their union is empty."""
    inter = max(0.0, min(first[1], second[1]) - max(first[0], second[0]))
    union = (first[1] - first[0]) + (second[1] - second[0]) - inter
    return float(inter / union) if union > 0 else 0.0


def slow_metrics(truth: GroundTruth, found: Predictions, threshold: float) -> tuple[list[float], list[float]]:
    """AP and Recall@1x per class, one prediction after another."""
    precisions, recalls = [], []
    names = np.array(truth.recordings)[truth.recording_index]
    found_names = np.array(found.recordings or ["-"])[found.recording_index]
    for label_id in np.unique(truth.label_ids):
        events = np.flatnonzero(truth.label_ids == label_id)
        order = [i for i in np.argsort(found.scores, kind="stable")[::-1] if found.label_ids[i] == label_id]  # type: ignore[index]
        taken: set[int] = set()
        verdicts = []
        for i in order:
            near = [g for g in events if names[g] == found_names[i]]
            overlaps = {g: overlap(found.segments[i], truth.segments[g]) for g in near}
            free = [g for g in near if g not in taken and overlaps[g] >= threshold]
            best = max(free, key=lambda g: (overlaps[g], g), default=None)
            verdicts.append(best is not None)
            taken |= {best} if best is not None else set()
        hits = list(itertools.accumulate(verdicts))
        precision = [hit / (i + 1) for i, hit in enumerate(hits)]
        precisions.append(sum(max(precision[i:]) for i, v in enumerate(verdicts) if v) / len(events))
        reached = 0
        for name in set(names[events]):
            here = [g for g in events if names[g] == name]
            best_ones = [i for i in order if found_names[i] == name][: len(here)]
            reached += sum(
                any(overlap(found.segments[i], truth.segments[g]) >= threshold for i in best_ones) for g in here
            )
        recalls.append(reached / len(events))
    return precisions, recalls


@given(st.lists(EVENT, max_size=12), st.lists(EVENT, max_size=20), st.sampled_from([0.1, 0.5, 0.75, 1.0]))
def test_equals_the_slow_version(truth_events: Any, found_events: Any, threshold: float) -> None:
    truth, found = ground_truth([event[:4] for event in truth_events]), predictions(found_events)
    metrics = evaluate_segments(truth, found, [threshold, 0.5])
    precisions, recalls = slow_metrics(truth, found, threshold)
    np.testing.assert_allclose(metrics.per_class_AP[0], precisions, atol=1e-12)
    np.testing.assert_allclose(metrics.per_class_recall[0, 0], recalls, atol=1e-12)


@given(st.lists(EVENT, min_size=1, max_size=12), st.lists(EVENT, max_size=20))
def test_laws(truth_events: Any, found_events: Any) -> None:
    truth, found = ground_truth([event[:4] for event in truth_events]), predictions(found_events)
    metrics = evaluate_segments(truth, found, [0.3, 0.5, 0.7])
    assert ((metrics.per_class_AP >= 0) & (metrics.per_class_AP <= 1)).all()
    assert (np.diff(metrics.per_class_recall, axis=0) <= 0).all()  # a stricter threshold reaches no more
    assert (np.diff(metrics.recall, axis=1) >= 0).all()  # more predictions reach no less
    perfect = predictions([(*event[:4], 0.5) for event in truth_events])
    assert evaluate_segments(truth, perfect, [1.0]).recall[0, 1] <= 1
    rescored = Predictions(**{**vars(found), "scores": found.scores * 0.5})
    np.testing.assert_array_equal(evaluate_segments(truth, rescored, [0.5]).mAP, metrics.mAP[1])
