"""ops/segments.py: which events count as ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from eventide.ops.segments import point_times, unique_points, unique_segments


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
        ("within the tolerance at both ends", [[1, 2], [1.0009, 1.9995]], [0, 0], [True, False]),
        ("the first of equals stays", [[1, 2], [1, 2], [1, 2]], [3, 3, 3], [True, False, False]),
    ],
)
def test_unique(label: str, segments: list[list[float]], label_ids: list[int], kept: list[bool]) -> None:
    assert unique_segments(np.array(segments).reshape(-1, 2), np.array(label_ids)).tolist() == kept


@pytest.mark.parametrize(
    ("position", "times"), [("start", [1.0, 4.0]), ("centre", [1.5, 4.0]), ("end", [2.0, 4.0])], ids=lambda x: str(x)
)
def test_the_point_of_a_segment(position: str, times: list[float]) -> None:
    segments = np.array([[1.0, 2.0], [4.0, 4.0]])
    assert point_times(segments, position).tolist() == times
    assert point_times(segments[:0], position).tolist() == []


@pytest.mark.parametrize(
    ("label", "times", "label_ids", "kept"),
    [
        ("none", [], [], []),
        ("one", [3.0], [0], [True]),
        ("repeat", [3.0, 3.0009], [0, 0], [True, False]),
        ("repeat of another class", [3.0, 3.0], [0, 1], [True, True]),
        ("just far enough", [3.0, 3.0011], [0, 0], [True, True]),
        ("not in order", [3.0, 1.0, 2.9995], [0, 0, 0], [True, True, False]),
        ("close to one that was dropped", [1.0, 1.0009, 1.0018], [0, 0, 0], [True, False, True]),
    ],
)
def test_unique_points(label: str, times: list[float], label_ids: list[int], kept: list[bool]) -> None:
    assert unique_points(np.array(times), np.array(label_ids)).tolist() == kept
