"""Two annotators: which events belong together, and how far apart they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.disagreement import disagreement, match_points, match_segments, usual
from eventide.types import Recording

LABELS = ["a", "b"]


def annotated(*events: tuple[float, float, int], name: str = "r", points: bool = False) -> dict[str, Recording]:
    segments = np.array([event[:2] for event in events], dtype=np.float64).reshape(-1, 2)
    ids = np.array([event[2] for event in events], dtype=np.int64)
    is_point = np.ones(len(ids), dtype=bool) if points else None
    return {name: Recording(name, "training", 30.0, 100.0, segments, ids, is_point)}


@pytest.mark.parametrize(
    ("label", "first", "second", "expected"),
    [
        ("alike", [(0, 2), (5, 9)], [(0, 2), (5, 9)], [(0, 0), (1, 1)]),
        ("another order", [(0, 2), (5, 9)], [(5, 9), (0, 2)], [(0, 1), (1, 0)]),
        ("the better overlap first", [(0, 4), (3, 9)], [(2, 9)], [(1, 0)]),
        ("they touch only", [(0, 2)], [(2, 4)], []),
        ("a tie goes to the first", [(0, 2), (2, 4)], [(1, 3)], [(0, 0)]),
        ("nothing", [], [(0, 1)], []),
        ("nothing at all", [], [], []),
        ("no length", [(1, 1)], [(0, 2)], []),
    ],
)
def test_segments_that_belong_together(label: str, first: list, second: list, expected: list) -> None:
    found = match_segments(np.array(first, float).reshape(-1, 2), np.array(second, float).reshape(-1, 2))
    assert sorted(map(tuple, found.tolist())) == expected


@pytest.mark.parametrize(
    ("label", "first", "second", "expected"),
    [
        ("near", [1, 5], [1.2, 4.8], [(0, 0), (1, 1)]),
        ("one click too many", [1, 1.1, 5], [1.0, 5], [(0, 0), (2, 1)]),
        ("nothing", [], [1], []),
    ],
)
def test_points_that_belong_together(label: str, first: list, second: list, expected: list) -> None:
    assert list(map(tuple, match_points(np.array(first, float), np.array(second, float)).tolist())) == expected


def test_by_hand() -> None:
    """Starts 0.1 and ends 0.3 later, once; another event of another class is nobody's partner."""
    found = disagreement(annotated((1, 5, 0), (8, 9, 1)), annotated((1.1, 5.3, 0), (8, 9, 0)), LABELS, LABELS)
    assert (found.pairs, found.only_first, found.only_second, found.recordings) == (1, 1, 1, 1)
    assert found.bias == pytest.approx(0.2)
    assert found.difference == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert found.noise == pytest.approx(found.difference / np.sqrt(2))
    assert found.largest == pytest.approx(0.3)


def test_classes_go_by_label_not_by_number() -> None:
    found = disagreement(annotated((1, 5, 0)), annotated((1, 5, 1)), ["a", "b"], ["b", "a"])
    assert found.pairs == 1


@pytest.mark.parametrize(
    ("label", "second", "shared"),
    [("no common recording", annotated((1, 5, 0), name="x"), 0), ("no events", annotated(), 1)],
)
def test_nothing_in_common(label: str, second: dict[str, Recording], shared: int) -> None:
    found = disagreement(annotated((1, 5, 0)), second, LABELS, LABELS)
    assert (found.pairs, found.noise, found.recordings) == (0, 0.0, shared)


@given(noise=st.floats(0.01, 1.0), seed=st.integers(0, 20), points=st.booleans())
def test_the_noise_of_one_annotator_is_found_again(noise: float, seed: int, points: bool) -> None:
    rng = np.random.default_rng(seed)
    starts = np.arange(400) * 20.0
    truth = np.stack([starts, starts if points else starts + 10], axis=1)
    sides = []
    for _ in range(2):
        moved = truth + rng.normal(0, noise, truth.shape)
        if points:
            moved[:, 1] = moved[:, 0]
        sides.append(annotated(*((start, end, 0) for start, end in moved), points=points))
    found = disagreement(sides[0], sides[1], LABELS, LABELS)
    assert found.pairs == 400
    assert found.noise == pytest.approx(noise, rel=0.15)


def clicks(name: str, *times: float) -> dict[str, Recording]:
    return annotated(*((time, time, 0) for time in times), name=name, points=True)


def test_a_missed_click_that_is_matched_to_a_far_one_is_no_noise() -> None:
    """Noise 0.03 s; in every second recording one click is missed, and another made that the first does not have."""
    rng = np.random.default_rng(0)
    one: dict[str, Recording] = {}
    two: dict[str, Recording] = {}
    for i in range(20):
        truth = np.array([10.0, 40.0, 70.0])
        theirs = truth.copy()
        if i % 2:
            theirs[i % 3] += rng.uniform(4, 10)
        one |= clicks(f"r{i}", *(truth + rng.normal(0, 0.03, 3)))
        two |= clicks(f"r{i}", *(theirs + rng.normal(0, 0.03, 3)))
    found = disagreement(one, two, LABELS, LABELS)
    assert (found.pairs, found.left_out) == (50, 10)
    assert found.noise == pytest.approx(0.03, rel=0.25)
    assert found.largest < 0.2
    assert found.without == ", without 10 pair(s) too far apart to be one event"


def test_segments_that_only_just_overlap_are_no_noise() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([(start, start + 10) for start in np.arange(100) * 50.0])
    theirs = truth + rng.normal(0, 0.1, truth.shape)
    theirs[::10] += 9  # another event, that overlaps by 1 s
    theirs[5, 1] += 30  # a good start does not save a pair
    sides = [annotated(*((start, end, 0) for start, end in side)) for side in (truth, theirs)]
    found = disagreement(sides[0], sides[1], LABELS, LABELS)
    assert (found.pairs, found.left_out, found.only_first) == (89, 11, 0)
    assert found.noise == pytest.approx(0.1 / np.sqrt(2), rel=0.15)


MANY = [0.1 * (-1) ** i for i in range(20)]
NAN = float("nan")


@pytest.mark.parametrize(
    ("label", "starts", "ends", "names", "left_out"),
    [
        ("nothing", [], [], "", []),
        ("one", [7.0], [9.0], "a", []),
        ("all alike", [0.5] * 20, [0.5] * 20, "a" * 20, []),
        ("alike but for rounding", [0.1, 0.1 + 1e-12, 0.1 + 3e-12] * 5, [0.0] * 15, "a" * 15, []),
        ("most alike, others a step away", [0.0] * 12 + [1.0] * 8, [0.0] * 20, "a" * 20, []),
        ("at the limit", [*MANY, 0.7413, -0.7413], [0.0] * 22, "a" * 22, []),
        ("beyond the limit", [*MANY, 0.7414, -0.7414], [0.0] * 22, "a" * 22, [20, 21]),
        ("points", [*MANY, 4.0], [NAN] * 21, "a" * 21, [20]),
        ("far from 0, near the median", [5 + value for value in MANY], [0.0] * 20, "a" * 20, []),
        ("ends vary more than starts", MANY, [10 * value for value in MANY], "a" * 20, []),
        ("a class varies more", MANY + [10 * value for value in MANY], [0.0] * 40, "a" * 20 + "b" * 20, []),
        ("too few of a class to know", [*MANY, 4.0], [0.0] * 21, "a" * 20 + "b", []),
        ("classes of few pairs are one", [*MANY, 4.0], [0.0] * 21, "abcd" * 5 + "e", [20]),
    ],
)
def test_usual_pairs(label: str, starts: list[float], ends: list[float], names: str, left_out: list[int]) -> None:
    kept = usual(np.stack([np.array(starts), np.array(ends)], axis=1), np.array(list(names), dtype=str))
    assert np.flatnonzero(~kept).tolist() == left_out
