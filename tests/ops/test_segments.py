"""ops/segments.py: which events count as ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from eventide.ops.segments import unique_segments


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
