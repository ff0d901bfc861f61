"""evaluation/calibration.py: errors of scores, temperatures, thresholds and intervals, against plain versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.evaluation.calibration import (
    FLOOR,
    best_f1_threshold,
    cost_of_missing,
    costs,
    expected_calibration_error,
    fit_scale,
    fit_temperature,
    interval_coverage,
    scale_ranges,
    scale_scores,
)


def negative_log_likelihood(scores: np.ndarray, right: np.ndarray, missed: int) -> float:
    """Costs of all verdicts and of the events that were missed."""
    return float(costs(scores, right).sum()) + missed * cost_of_missing()


some_scores = st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.25, 0.5, 0.75, 0.999, 1.0]), max_size=40)


def calibrated(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores between the floor and 1, and verdicts that are right as often as the scores say."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(FLOOR, 1, count)
    return scores, rng.uniform(size=count) < scores


@pytest.mark.parametrize(
    ("label", "scores", "right", "error", "count"),
    [
        ("nothing", [], [], 0.0, 0),
        ("all below the floor", [0.01, 0.049], [True, False], 0.0, 0),
        ("the floor itself counts", [0.05], [False], 0.05, 1),
        ("sure and right", [1.0, 1.0], [True, True], 0.0, 2),
        ("sure and wrong", [1.0, 1.0], [False, False], 1.0, 2),
        ("equal scores share a bin", [0.5, 0.5, 0.5, 0.5], [True, True, False, False], 0.0, 4),
        ("different ones do not", [0.4, 0.6], [True, False], 0.6, 2),
        ("those below the floor change nothing", [0.5, 0.5, 0.01], [True, False, True], 0.0, 2),
    ],
)
def test_calibration_error(label: str, scores: list[float], right: list[bool], error: float, count: int) -> None:
    found = expected_calibration_error(np.array(scores), np.array(right, bool), least_in_bin=1)
    assert found.error == pytest.approx(error)
    assert found.count == count == found.numbers.sum()


def test_bins_hold_equally_many() -> None:
    scores, right = calibrated(1500)
    found = expected_calibration_error(scores, right)
    assert found.numbers.tolist() == [100] * 15
    assert (np.diff(found.mean_scores) > 0).all()
    assert found.numbers @ found.shares_right == pytest.approx(right.sum())


@pytest.mark.parametrize(("count", "bins"), [(1, 1), (19, 1), (20, 2), (149, 14), (150, 15), (3000, 15)])
def test_few_detections_have_few_bins(count: int, bins: int) -> None:
    found = expected_calibration_error(*calibrated(count))
    assert len(found.numbers) == bins
    assert found.numbers.sum() == count


def test_calibrated_scores_have_a_small_error_and_others_have_not() -> None:
    scores, right = calibrated(20_000)
    assert expected_calibration_error(scores, right).error < 0.015
    for temperature in (0.4, 2.5):
        assert expected_calibration_error(scale_scores(scores, temperature), right).error > 0.08


@given(some_scores, st.randoms(use_true_random=False))
def test_order_changes_no_error(scores: list[float], random: object) -> None:
    rows = np.array(scores)
    right = np.random.default_rng(0).uniform(size=len(rows)) < 0.5
    order = np.random.default_rng(1).permutation(len(rows))
    error = expected_calibration_error(rows, right).error
    assert error == pytest.approx(expected_calibration_error(rows[order], right[order]).error)
    assert 0 <= error <= 1


@pytest.mark.parametrize(
    ("label", "score", "temperature", "expected"),
    [
        ("one", 0.3, 1.0, 0.3),
        ("a half stays", 0.5, 7.0, 0.5),
        ("towards a half", 0.9, 2.0, 0.75),
        ("away from it", 0.75, 0.5, 0.9),
        ("nothing stays nothing", 0.0, 2.0, 0.0),
    ],
)
def test_scaled_scores(label: str, score: float, temperature: float, expected: float) -> None:
    scaled = scale_scores(np.array([score], np.float32), temperature)
    assert scaled.dtype == np.float32
    assert scaled[0] == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 1, width=32), max_size=20), st.floats(0.7, 10), st.floats(0.1, 10))
def test_scaling_keeps_the_order_and_can_be_undone(scores: list[float], first: float, second: float) -> None:
    rows = np.sort(np.array(scores))
    scaled = scale_scores(rows, first)
    assert (np.diff(scaled) >= 0).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()
    inside = (rows > 1e-3) & (rows < 0.999)
    both = scale_scores(scale_scores(rows[inside], first), 1 / first * second)
    np.testing.assert_allclose(both, scale_scores(rows[inside], second), atol=1e-3)


@pytest.mark.parametrize(
    ("label", "scores", "right", "missed", "expected"),
    [
        ("nothing", [], [], 0, 0.0),
        ("right and sure", [1.0], [True], 0, 0.0),
        ("right with one half", [0.5], [True], 0, math.log(2)),
        ("wrong at the floor", [FLOOR], [False], 0, 0.0),
        ("wrong below the floor", [0.001], [False], 0, 0.0),
        ("wrong with one half", [0.5], [False], 0, math.log(2) + math.log(1 - FLOOR)),
        ("missed", [], [], 2, -2 * math.log(FLOOR)),
        ("right below the floor is missed", [0.001], [True], 0, -math.log(FLOOR)),
    ],
)
def test_likelihood(label: str, scores: list[float], right: list[bool], missed: int, expected: float) -> None:
    found = negative_log_likelihood(np.array(scores), np.array(right, bool), missed)
    assert found == pytest.approx(expected, abs=1e-6)


@given(some_scores, st.integers(0, 5))
def test_what_appears_below_the_floor_changes_no_likelihood(scores: list[float], more: int) -> None:
    rows = np.array([*scores, *([0.01] * more)])
    right = np.append(np.random.default_rng(0).uniform(size=len(scores)) < 0.5, np.zeros(more, bool))
    of_some = negative_log_likelihood(rows[: len(scores)], right[: len(scores)], 3)
    assert negative_log_likelihood(rows, right, 3) == pytest.approx(of_some)


@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0, 1.7, 4.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    scores, right = calibrated(50_000)
    distorted = scale_scores(scores, 1 / temperature)
    found = fit_temperature(lambda t: negative_log_likelihood(scale_scores(distorted, t), right, 0))
    assert found == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize(
    ("label", "best", "expected"),
    [("inside", 1.234, 1.234), ("beyond the low end", 0.01, 0.1), ("beyond the high end", 100.0, 10.0)],
)
def test_smooth_losses(label: str, best: float, expected: float) -> None:
    assert fit_temperature(lambda t: (math.log(t) - math.log(best)) ** 2) == pytest.approx(expected, rel=0.01)


def test_a_flat_loss_gives_one_and_no_temperature_is_tried_twice() -> None:
    tried: list[float] = []
    assert fit_temperature(lambda t: tried.append(t) or 0.0) == 1.0
    assert len(set(tried)) == len(tried) <= 28


@pytest.mark.parametrize(
    ("label", "scores", "right", "events", "expected"),
    [
        ("nothing", [], [], 3, (0.0, 0.0)),
        ("one right", [0.4], [True], 1, (0.4, 1.0)),
        ("the wrong one is left out", [0.9, 0.4], [True, False], 1, (0.9, 1.0)),
        ("equal scores are taken together", [0.5, 0.5], [True, False], 1, (0.5, 2 / 3)),
        ("of equals the highest", [0.9, 0.8, 0.7, 0.6], [True, False, False, True], 2, (0.9, 2 / 3)),
        ("none is right", [0.9, 0.4], [False, False], 1, (0.9, 0.0)),
        ("no events", [0.9], [False], 0, (0.9, 0.0)),
    ],
)
def test_threshold(
    label: str, scores: list[float], right: list[bool], events: int, expected: tuple[float, float]
) -> None:
    assert best_f1_threshold(np.array(scores), np.array(right, bool), events) == pytest.approx(expected)


@given(some_scores, st.integers(0, 20), st.integers(0, 3))
def test_threshold_is_that_of_brute_force(scores: list[float], missed: int, seed: int) -> None:
    rows = np.array(scores)
    right = np.random.default_rng(seed).uniform(size=len(rows)) < 0.5
    events = int(right.sum()) + missed
    threshold, f1 = best_f1_threshold(rows, right, events)
    tried = {
        value: 2 * right[rows >= value].sum() / max((rows >= value).sum() + events, 1) for value in np.unique(rows)
    }
    assert f1 == pytest.approx(max(tried.values(), default=0.0))
    assert threshold == max((v for v, other in tried.items() if other == max(tried.values())), default=0.0)


@pytest.mark.parametrize(
    ("label", "truth", "low", "high", "lowest", "highest"),
    [
        ("ahead", 1.0, -1.0, 2.0, 0.5, np.inf),
        ("behind", -1.0, -0.5, 2.0, 2.0, np.inf),
        ("on the boundary", 0.0, -1.0, 2.0, 0.0, np.inf),
        ("no width, no error", 0.0, 0.0, 0.0, 0.0, np.inf),
        ("no width on this side", 1.0, -1.0, 0.0, np.inf, np.inf),
        ("interval all ahead, truth behind", -1.0, 0.5, 2.0, np.inf, 0.0),
        ("interval all ahead, truth in it", 1.0, 0.5, 2.0, 0.5, 2.0),
        ("interval all behind, truth on the boundary", 0.0, -2.0, -0.5, np.inf, np.inf),
    ],
)
def test_needed_scales(label: str, truth: float, low: float, high: float, lowest: float, highest: float) -> None:
    shifted = [np.array([value + 10.0]) for value in (truth, 0.0, low, high)]
    ranges = scale_ranges(*shifted)
    assert ranges.lowest[0] == lowest
    if math.isfinite(lowest):
        assert ranges.highest[0] == highest
    for scale in (0.25, 0.5, 1.0, 2.0, 3.0):
        inside = scale * low <= truth <= scale * high
        assert ranges.coverage(scale) == interval_coverage(*shifted, scale) == float(inside)


def test_no_boundaries() -> None:
    nothing = scale_ranges(*[np.zeros(0)] * 4)
    assert nothing.coverage(1.0) == 0.0
    assert fit_scale(nothing, 0.8) is None


def test_coverage_of_true_intervals_is_what_they_claim() -> None:
    truth = np.random.default_rng(0).normal(size=20_000)
    for level, half in ((0.5, 0.67449), (0.8, 1.28155), (0.95, 1.95996)):
        covered = interval_coverage(truth, 0 * truth, 0 * truth - half, 0 * truth + half)
        assert covered == pytest.approx(level, abs=0.01)


@given(st.integers(1, 60), st.integers(0, 9), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_scale_gives_exact_coverage(count: int, seed: int, level: float) -> None:
    """The least share of at least `level` that the number of boundaries allows."""
    rng = np.random.default_rng(seed)
    truth, widths = rng.normal(size=count), rng.uniform(0.1, 3, (2, count))
    ranges = scale_ranges(truth, np.zeros(count), -widths[0], widths[1])
    scale = fit_scale(ranges, level)
    assert scale is not None
    assert ranges.coverage(scale) == pytest.approx(math.ceil(level * count - 1e-9) / count)
    assert ranges.coverage(np.nextafter(scale, 0)) < level
    assert scale == pytest.approx(
        np.sort(np.abs(truth) / np.where(truth < 0, *widths))[math.ceil(level * count - 1e-9) - 1]
    )


@given(st.integers(1, 40), st.integers(0, 9))
def test_the_smallest_scale_that_is_enough_also_where_intervals_miss_their_boundary(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, ends = rng.normal(size=count), np.sort(rng.normal(size=(count, 2)), axis=1)
    ranges = scale_ranges(truth, np.zeros(count), ends[:, 0], ends[:, 1])
    scale = fit_scale(ranges, 0.5)
    enough = [s for s in ranges.lowest[np.isfinite(ranges.lowest)] if s > 0 and ranges.coverage(s) >= 0.5]
    assert scale == (min(enough) if enough else None)
