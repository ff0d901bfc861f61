"""evaluation/curves.py: precision over recall, and the best score to read detections at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eventide.data.annotations import load_annotations, split
from eventide.evaluation.curves import RECALL_GRID, precision_recall
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.results import read_results
from eventide.evaluation.segments import evaluate_segments
from eventide.types import Recording

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "postprocess_and_eval"


def one_recording(found: list[tuple[float, float, float]]) -> tuple[GroundTruth, Predictions]:
    """Events at 0-10 and 20-30 of class 0; predictions (start, end, score) of it."""
    truth = GroundTruth.from_recordings(
        [Recording("a", "x", None, None, np.array([[0, 10], [20, 30]]), np.zeros(2, np.int64))]
    )
    rows = np.array(found, np.float64).reshape(-1, 3)
    index = np.zeros(len(rows), np.int64)
    return truth, Predictions(["a"], index, rows[:, :2], label_ids=index, scores=rows[:, 2])


@pytest.mark.parametrize("tiou", [0.1, 0.5, 0.7])
def test_area_is_the_average_precision(tiou: float) -> None:
    annotated = load_annotations(REFERENCE / "eval_ground_truth.json")
    truth = GroundTruth.from_recordings(split(annotated, "validation"), annotated.labels)
    found = read_results(REFERENCE / "eval_predictions.json")
    curves = precision_recall(truth, found, tiou)
    metrics = evaluate_segments(truth, found, [tiou])
    np.testing.assert_allclose(curves.average_precision, metrics.per_class_AP[0], atol=1e-12)
    assert curves.mean_precision.mean() == pytest.approx(metrics.average_mAP, abs=2e-3)
    assert (np.diff(curves.mean_precision) <= 1e-12).all()
    assert len(curves.mean_precision) == len(RECALL_GRID)


@pytest.mark.parametrize(
    ("label", "found", "score", "f1"),
    [
        ("one right", [(0, 10, 0.9)], 0.9, 2 / 3),
        ("both right", [(0, 10, 0.9), (20, 30, 0.4)], 0.4, 1.0),
        ("a wrong one between", [(0, 10, 0.9), (50, 60, 0.6), (20, 30, 0.4)], 0.4, 0.8),
        ("a wrong one last", [(0, 10, 0.9), (20, 30, 0.4), (50, 60, 0.2)], 0.4, 1.0),
        ("equal scores are taken together", [(0, 10, 0.5), (50, 60, 0.5), (70, 80, 0.5)], 0.5, 0.4),
        ("nothing right", [(50, 60, 0.9), (70, 80, 0.3)], 0.9, 0.0),
        ("nothing", [], 0.0, 0.0),
    ],
)
def test_best_score(label: str, found: list[tuple[float, float, float]], score: float, f1: float) -> None:
    curves = precision_recall(*one_recording(found), 0.5)
    assert curves.best_score == score
    assert curves.best_f1 == pytest.approx(f1)


def test_without_ground_truth() -> None:
    _, found = one_recording([(0, 10, 0.9)])
    curves = precision_recall(
        GroundTruth(["a"], np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0, np.int64)), found, 0.5
    )
    assert curves.classes == []
    assert curves.best_score == 0
    assert not curves.mean_precision.any()


@pytest.mark.parametrize(("tolerance", "column"), [(0.0, 0), (0.32, 4), (1.0, 5)])
def test_points_have_the_published_average_precision(tolerance: float, column: int) -> None:
    expected = json.loads((REFERENCE / "points_expected.json").read_text(encoding="utf-8"))["per_class_AP"]
    annotated = load_annotations(REFERENCE / "points_ground_truth.json")
    truth = GroundTruth.from_recordings(split(annotated, "validation"), annotated.labels, "points")
    curves = precision_recall(truth, read_results(REFERENCE / "points_predictions.json"), tolerance)
    assert curves.rule == f"a tolerance of {tolerance:g} s"
    assert curves.average_precision == pytest.approx([expected[name][column] for name in curves.classes], abs=1e-9)
    assert 0 < curves.best_f1 < 1
