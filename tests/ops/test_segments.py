"""ops/segments.py: overlap of segments, and which events count as ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.segments import segment_iou, unique_segments

SEGMENTS = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)).map(lambda pair: sorted(pair)), min_size=1, max_size=8
).map(np.array)


@pytest.mark.parametrize(
    ("label", "first", "second", "expected"),
    [
        ("equal", [0, 2], [0, 2], 1.0),
        ("half", [0, 2], [1, 2], 0.5),
        ("touching", [0, 1], [1, 2], 0.0),
        ("apart", [0, 1], [5, 6], 0.0),
        ("inside", [0, 4], [1, 2], 0.25),
        ("both without length", [1, 1], [1, 1], 0.0),
        ("one without length", [1, 1], [0, 2], 0.0),
        ("ends before it starts", [2, 1], [0, 1], 0.0),
    ],
)
def test_overlap(label: str, first: list[float], second: list[float], expected: float) -> None:
    assert segment_iou(np.array([first]), np.array([second])) == pytest.approx(np.array([[expected]]))


@given(SEGMENTS, SEGMENTS)
def test_overlap_laws(first: np.ndarray, second: np.ndarray) -> None:
    overlap = segment_iou(first, second)
    assert overlap.shape == (len(first), len(second))
    assert ((overlap >= 0) & (overlap <= 1 + 1e-12)).all()
    np.testing.assert_allclose(overlap, segment_iou(second, first).T, atol=1e-12)


def test_overlap_of_nothing() -> None:
    assert segment_iou(np.zeros((0, 2)), np.zeros((3, 2))).shape == (0, 3)


@pytest.mark.parametrize(
    ("label", "segments", "label_ids", "kept"),
    [
        ("none", [], [], []),
        ("too short", [[1, 1.0005]], [0], [False]),
        ("just long enough", [[0, 0.001]], [0], [True]),
        ("ends before it starts", [[2, 1]], [0], [False]),
        ("repeat", [[1, 2], [1.0005, 2.0005]], [0, 0], [True, False]),
        ("repeat of another class", [[1, 2], [1.0005, 2.0005]], [0, 1], [True, True]),
        ("only the start is close", [[1, 2], [1.0005, 2.1]], [0, 0], [True, True]),
        ("close to one that was dropped", [[1, 2], [1.0009, 2], [1.0018, 2]], [0, 0, 0], [True, False, True]),
        ("the first of equals stays", [[1, 2], [1, 2], [1, 2]], [3, 3, 3], [True, False, False]),
    ],
)
def test_unique(label: str, segments: list[list[float]], label_ids: list[int], kept: list[bool]) -> None:
    assert unique_segments(np.array(segments).reshape(-1, 2), np.array(label_ids)).tolist() == kept
