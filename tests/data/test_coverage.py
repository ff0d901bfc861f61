"""Positive points per event: counted by hand, and the same as target assignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.data import coverage
from eventide.data.coverage import positive_points_per_event
from eventide.ops.assign import assign_targets
from eventide.ops.points import pyramid_points

STRIDES = (1, 2, 4)
RANGES = ((0.0, 4.0), (4.0, 8.0), (8.0, 10000.0))

CASES = [
    # Centre 5, radius 1.5: points 4, 5, 6 of level 0 lie inside (3.5, 6.5); their farther distance is 3, 2, 3.
    pytest.param([(3, 7)], 20, [[3, 0, 0]], [[3, 0, 0]], id="short"),
    # Centre 5: level 0 answers for 4 at most: point 5 (4.0). Level 1: points 4 and 6 (5). Level 2 starts at 8.
    pytest.param([(1, 9)], 20, [[1, 2, 0]], [[1, 2, 0]], id="two levels"),
    # 0.4 to 0.9 lies between the points.
    pytest.param([(0.4, 0.9)], 20, [[0, 0, 0]], [[0, 0, 0]], id="between the points"),
    # A boundary is not inside.
    pytest.param([(4, 5)], 20, [[0, 0, 0]], [[0, 0, 0]], id="on the boundary"),
    # Beyond the last vector there are no points.
    pytest.param([(30, 40)], 20, [[0, 0, 0]], [[0, 0, 0]], id="after the end"),
    # The longer event shares its points 4, 5 and 6 with the shorter, which wins them.
    pytest.param([(3, 7), (2.5, 7.5)], 20, [[3, 0, 0]] * 2, [[3, 0, 0], [0, 0, 0]], id="lost to a shorter one"),
    # Lengths within 1e-3 of one another both win.
    pytest.param([(3, 7), (3, 7.0005)], 20, [[3, 0, 0]] * 2, [[3, 0, 0]] * 2, id="a tie"),
    pytest.param([], 20, np.zeros((0, 3)), np.zeros((0, 3)), id="no events"),
    pytest.param([(-0.5, 0.5)], 1, [[1, 0, 0]], [[1, 0, 0]], id="one vector"),
]


@pytest.mark.parametrize(("events", "length", "eligible", "won"), CASES)
def test_by_hand(events: list[tuple[float, float]], length: int, eligible: object, won: object) -> None:
    found = positive_points_per_event(np.array(events, dtype=np.float64), length, STRIDES, RANGES, 1.5)
    np.testing.assert_array_equal(found.eligible, eligible)
    np.testing.assert_array_equal(found.won, won)


def test_without_centre_sampling_all_points_inside_count() -> None:
    found = positive_points_per_event(np.array([(1.5, 9.5)]), 20, STRIDES, RANGES, None)
    # Level 0: 4 at most is never true but at 5.5; level 1: points 2 to 8 with farther distances 7.5 to 4.5.
    assert found.eligible.tolist() == [[0, 4, 0]]


@given(
    events=st.lists(
        st.tuples(st.integers(-8, 200), st.integers(1, 120)).map(lambda e: (e[0] / 4, (e[0] + e[1]) / 4)), max_size=5
    ),
    length=st.integers(1, 60),
    radius=st.sampled_from([None, 0.5, 1.5, 3.0]),
    pairs=st.sampled_from([1, 7, 4_000_000]),
)
def test_agrees_with_target_assignment(
    events: list[tuple[float, float]], length: int, radius: float | None, pairs: int
) -> None:
    """With a class of its own for every event, its positive points are the positives of its class."""
    coverage._PAIRS, before = pairs, coverage._PAIRS
    segments = np.array(events, dtype=np.float32).reshape(-1, 2)
    try:
        found = positive_points_per_event(segments, length, STRIDES, RANGES, radius)
    finally:
        coverage._PAIRS = before
    points = pyramid_points([-(-length // stride) for stride in STRIDES], STRIDES, RANGES)
    count = len(segments)
    targets, _ = assign_targets(
        points, torch.from_numpy(segments)[None], torch.arange(count)[None], max(count, 1), radius
    )
    positives = targets[0, :, :count].sum(dim=0).int().tolist()
    assert found.won.sum(axis=1).tolist() == positives
    assert (found.won <= found.eligible).all()
