"""Voting on boundaries, against its formula and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.voting import LEAST_VARIANCE, NEARNESS, vote_boundaries

Row = tuple[float, float, float, int]  # start, end, score, label id


def vote(kept: list[Row], candidates: list[Row], std: list[list[float]] | None = None, threshold: float = 0.5):  # type: ignore[no-untyped-def]
    """`vote_boundaries` of rows."""
    ours, theirs = np.array(kept).reshape(-1, 4), np.array(candidates).reshape(-1, 4)
    spread = None if std is None else np.array(std).reshape(-1, 2)
    return vote_boundaries(ours[:, :2], ours[:, 3], theirs[:, :2], theirs[:, 2], theirs[:, 3], spread, threshold)


A, B, FAR = (10.0, 20.0, 0.9, 0), (11.0, 21.0, 0.9, 0), (40.0, 50.0, 0.9, 0)


@pytest.mark.parametrize(
    ("kept", "candidates", "std", "threshold", "expected"),
    [
        pytest.param([], [A], None, 0.5, [], id="nothing kept"),
        pytest.param([A], [], None, 0.5, [A[:2]], id="nobody votes"),
        pytest.param([A], [A], None, 0.5, [A[:2]], id="itself only"),
        pytest.param([A], [A, FAR], None, 0.5, [A[:2]], id="another elsewhere"),
        pytest.param([A], [A, (*B[:3], 1)], None, 0.5, [A[:2]], id="another class"),
        pytest.param([A], [A, B], None, 0.9, [A[:2]], id="too little overlap"),
        pytest.param([A], [A, B], [[1, 1], [1e6, 1e6]], 0.5, [A[:2]], id="the other one knows nothing"),
        pytest.param([A], [A, B], [[1e6, 1], [1, 1e6]], 0.5, [(11.0, 20.0)], id="each knows one boundary"),
        pytest.param([(5.0, 5.0, 0.5, 0)], [A, (5.0, 5.0, 0.5, 0)], None, 0.5, [(5.0, 5.0)], id="empty segment"),
    ],
)
def test_cases(
    kept: list[Row],
    candidates: list[Row],
    std: list[list[float]] | None,
    threshold: float,
    expected: list[tuple[float, float]],
) -> None:
    np.testing.assert_allclose(vote(kept, candidates, std, threshold), np.array(expected).reshape(-1, 2), atol=1e-4)


def test_formula() -> None:
    std = [[1.0, 2.0], [0.5, 3.0]]
    overlap = 9 / 11
    own, other = 0.9, 0.9 * math.exp(-((1 - overlap) ** 2) / NEARNESS)
    expected = []
    for side in range(2):
        weights = own / (std[0][side] ** 2 + LEAST_VARIANCE), other / (std[1][side] ** 2 + LEAST_VARIANCE)
        expected.append((weights[0] * A[side] + weights[1] * B[side]) / sum(weights))
    np.testing.assert_allclose(vote([A], [A, B], std)[0], expected, rtol=1e-6)


rows = st.tuples(st.floats(0, 50), st.floats(0.5, 30), st.floats(0.01, 1), st.integers(0, 2)).map(
    lambda row: (row[0], row[0] + row[1], row[2], row[3])
)


@given(st.lists(rows, min_size=1, max_size=8), st.floats(0.01, 1))
def test_result_lies_among_the_votes(candidates: list[Row], threshold: float) -> None:
    """A mean: within the range of those of its class, the same in any order."""
    voted = vote(candidates, candidates, threshold=threshold)
    for (_, _, _, label), (start, end) in zip(candidates, voted, strict=True):
        same = [row for row in candidates if row[3] == label]
        assert min(row[0] for row in same) - 1e-3 <= start <= max(row[0] for row in same) + 1e-3
        assert min(row[1] for row in same) - 1e-3 <= end <= max(row[1] for row in same) + 1e-3
    np.testing.assert_allclose(vote(candidates, candidates[::-1], threshold=threshold), voted, atol=1e-3)
