"""evaluation/judged.py and operating_point.py: verdicts, subsets of recordings, what is fitted and measured on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.evaluation.calibration import scale_scores
from eventide.evaluation.events import GroundTruth
from eventide.evaluation.judged import Judged, judge
from eventide.evaluation.operating_point import (
    LEVELS,
    QUANTILES,
    fit_calibration,
    intervals,
    measure,
    precision_recall_f1,
    together,
)
from eventide.types import Detections, EventideError, Recording

HALF_WIDTHS = (1.9600, 1.2816, 0.6745)  # of the 95, 80 and 50% intervals, in standard deviations


def truth_of(*recordings: list[tuple[float, float, int]], kind: str = "segments") -> GroundTruth:
    """Recordings a, b, ... with events (start, end, label id)."""
    made = []
    for name, events in zip("abcdefgh", recordings, strict=False):
        rows = np.array(events, np.float64).reshape(-1, 3)
        made.append(Recording(name, "x", None, None, rows[:, :2], rows[:, 2].astype(np.int64)))
    return GroundTruth.from_recordings(made, kind=kind)  # type: ignore[arg-type]


def found(*rows: tuple[float, float, int, float]) -> Detections:
    """Detections (start, end, label id, score)."""
    values = np.array(rows, np.float64).reshape(-1, 4)
    points = len(values) and (values[:, 0] == values[:, 1]).all()
    return Detections(
        values[:, :2].astype(np.float32),
        values[:, 3].astype(np.float32),
        values[:, 2].astype(np.int64),
        kind="points" if points else "segments",
    )


@pytest.mark.parametrize(
    ("label", "events", "detections", "event", "missed"),
    [
        ("nothing at all", [], [], [], 0),
        ("nothing found", [(0, 10, 0)], [], [], 1),
        ("nothing to find", [], [(0, 10, 0, 0.5)], [-1], 0),
        ("right", [(0, 10, 0)], [(0, 9, 0, 0.5)], [0], 0),
        ("another class", [(0, 10, 0)], [(0, 10, 1, 0.5)], [-1], 1),
        ("just enough overlap", [(0, 10, 0)], [(0, 5, 0, 0.5)], [0], 0),
        ("too little overlap", [(0, 10, 0)], [(0, 4.9, 0, 0.5)], [-1], 1),
        ("one event once, the better score", [(0, 10, 0)], [(0, 9, 0, 0.4), (0, 8, 0, 0.6)], [-1, 0], 0),
        ("each its own", [(0, 10, 0), (20, 30, 1)], [(20, 30, 1, 0.9), (0, 10, 0, 0.1)], [1, 0], 0),
    ],
)
def test_verdicts(label: str, events: list, detections: list, event: list[int], missed: int) -> None:
    judged = judge(truth_of(events), {"a": found(*detections)}, 0.5, 2)
    assert judged.event.tolist() == event
    assert len(judged.event_recording) - judged.right.sum() == missed
    assert judged.quantiles is None


def test_points_are_right_within_the_tolerance() -> None:
    truth = truth_of([(5, 5, 0), (9, 9, 0)], kind="points")
    detections = {"a": found((5.5, 5.5, 0, 0.9), (8.4, 8.4, 0, 0.8), (9.2, 9.2, 0, 0.7))}
    assert judge(truth, detections, 0.5, 1).event.tolist() == [0, -1, 1]


def test_detections_of_other_recordings_and_recordings_without_detections() -> None:
    judged = judge(truth_of([(0, 10, 0)], [(0, 10, 0)]), {"z": found((0, 10, 0, 1)), "b": found((0, 10, 0, 1))}, 0.5, 1)
    assert judged.recording_index.tolist() == [1]
    assert judged.event.tolist() == [1]


def random_judged(seed: int, recordings: int = 4, quantiles: bool = False) -> Judged:
    """Three classes; a third of the events are missed; deviations of 1 s are claimed, 2 s are true."""
    rng = np.random.default_rng(seed)
    truth, detections = [], {}
    for name in "abcdefgh"[:recordings]:
        events, rows = [], []
        for index in range(int(rng.integers(0, 30))):
            start, label = 100.0 * index, int(rng.integers(0, 3))
            events.append((start, start + 50.0, label))
            score = float(rng.uniform(0.05, 1))
            if rng.uniform() < score:
                rows.append((*(start + np.array([0, 50]) + 2 * rng.normal(size=2)), label, score))
            else:
                rows.append((start + 60, start + 90, label, score))
        truth.append(events)
        detections[name] = found(*rows)
        if quantiles:
            spread = np.array([*(-width for width in HALF_WIDTHS), *HALF_WIDTHS[::-1]], np.float32)
            detections[name].quantiles = detections[name].segments[:, :, None] + spread
    return judge(truth_of(*truth), detections, 0.5, 3)


@given(st.integers(0, 20), st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_subset_is_what_judging_it_alone_gives(seed: int, chosen: list[bool]) -> None:
    judged = random_judged(seed, quantiles=True)
    rows = np.array(chosen)
    parts = [judged.of(rows), judged.of(~rows)]
    for part, kept in zip(parts, (rows, ~rows), strict=True):
        of_event = kept[judged.event_recording]
        np.testing.assert_array_equal(part.event_segments, judged.event_segments[of_event])
        whole = judged.take(kept[judged.recording_index])
        np.testing.assert_array_equal(part.right, whole.right)
        np.testing.assert_array_equal(
            part.event_segments[part.event[part.right]], judged.event_segments[whole.event[whole.right]]
        )
    np.testing.assert_allclose(parts[0].costs() + parts[1].costs(), judged.costs())


def fixed(judged: Judged, true_temperature: float = 1.0):  # type: ignore[no-untyped-def]
    """Verdicts that stay while temperatures change the scores."""
    from dataclasses import replace

    return lambda t: replace(judged, scores=scale_scores(judged.scores, t / true_temperature))


def test_what_is_fitted() -> None:
    judged = random_judged(0, 8, quantiles=True)
    at = fixed(judged, true_temperature=2.0)
    fitted = fit_calibration(at, 4)
    assert fitted.temperature == pytest.approx(2.0, rel=0.35)
    assert fitted.why_common == ["", "", "", "it has no events here"]
    assert fitted.thresholds[3] == fitted.common_threshold
    chosen = fitted.chosen(at(fitted.temperature))
    ranges = intervals(chosen)[LEVELS.index(0.8)]
    assert fitted.std_scale == pytest.approx(2.0, rel=0.3)
    number = len(ranges.lowest)
    assert 0.8 <= ranges.coverage(fitted.std_scale) < 0.8 + 2 / number
    assert number == 2 * chosen.right.sum()


def test_a_class_of_which_nothing_was_found_takes_the_common_threshold() -> None:
    truth = truth_of([(0, 10, 0), (20, 30, 1)])
    judged = judge(truth, {"a": found((0, 10, 0, 0.7), (50, 60, 1, 0.9), (50, 60, 0, 0.2))}, 0.5, 2)
    fitted = fit_calibration(fixed(judged), 2)
    assert fitted.why_common == ["", "none of its events was found"]
    assert fitted.thresholds[1] == fitted.common_threshold > 0


def test_nothing_right_is_an_error() -> None:
    judged = judge(truth_of([(0, 10, 0)]), {"a": found((50, 60, 0, 0.9))}, 0.5, 1)
    with pytest.raises(EventideError, match="nothing to calibrate on"):
        fit_calibration(fixed(judged), 1)


def test_thresholds_keep_the_detection_on_the_edge() -> None:
    judged = judge(truth_of([(0, 10, 0)]), {"a": found((0, 10, 0, 0.1234567), (50, 60, 0, 0.12))}, 0.5, 1)
    fitted = fit_calibration(lambda t: judged, 1)
    assert fitted.thresholds.tolist() == [0.123456]
    assert fitted.chosen(judged).scores.tolist() == [np.float32(0.1234567)]


@pytest.mark.parametrize("quantiles", [False, True])
def test_parts_together_are_the_whole(quantiles: bool) -> None:
    judged = random_judged(3, 8, quantiles)
    at = fixed(judged)
    fitted = fit_calibration(at, 3)
    rows = np.arange(8) % 3
    parts = [measure(at(1.0).of(rows == fold), at(fitted.temperature).of(rows == fold), fitted) for fold in range(3)]
    whole, sums = measure(at(1.0), at(fitted.temperature), fitted).to_dict(), together(parts).to_dict()
    assert ("intervals" in whole) == quantiles
    assert sums["operating_point"] == whole["operating_point"]
    assert sums["common_operating_point"] == whole["common_operating_point"]
    assert sums["calibration_error"]["after"]["error"] == pytest.approx(whole["calibration_error"]["after"]["error"])
    assert sums["negative_log_likelihood"] == pytest.approx(whole["negative_log_likelihood"])
    assert sums.get("intervals") == whole.get("intervals")


def test_intervals_are_the_quantiles_they_are_named_by() -> None:
    assert QUANTILES == (0.025, 0.1, 0.25, 0.75, 0.9, 0.975)
    judged = random_judged(1, 8, quantiles=True)
    fitted = fit_calibration(fixed(judged), 3)
    coverage = measure(judged, fixed(judged)(fitted.temperature), fitted).to_dict()["intervals"]["coverage"]
    # errors of two claimed deviations: 0.26, 0.48 and 0.67 of normal ones lie inside
    np.testing.assert_allclose(coverage["before"], [0.264, 0.478, 0.673], atol=0.1)
    np.testing.assert_allclose(coverage["after"], LEVELS, atol=0.1)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [((0, 0, 0), 0, 0, 0), ((4, 0, 0), 0, 0, 0), ((0, 2, 0), 0, 0, 0), ((4, 2, 1), 0.5, 0.25, 1 / 3)],
)
def test_precision_recall_f1(counts: tuple[int, int, int], precision: float, recall: float, f1: float) -> None:
    row = precision_recall_f1(counts)
    assert (row["precision"], row["recall"], row["f1"]) == (precision, recall, f1)
