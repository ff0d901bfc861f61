"""Two annotators: which events belong together, and how far apart they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.disagreement import disagreement, match_points, match_segments
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
    found = disagreement(*sides, LABELS, LABELS)
    assert found.pairs == 400
    assert found.noise == pytest.approx(noise, rel=0.15)
