"""ops/fusion.py: class-agnostic segments and external class scores."""

from __future__ import annotations

import numpy as np
import pytest

from eventide.ops.fusion import fuse_external_scores

SCORES = np.array([0.25, 0.64, 0.04], np.float32)


def test_best_classes_and_square_root() -> None:
    rows, scores, label_ids = fuse_external_scores(SCORES, np.array([0.0, 1.0, 0.25]), 2, 200)
    assert label_ids.tolist() == [1, 1, 2, 2, 1, 2]
    np.testing.assert_allclose(scores, [0.8, 0.5, 0.4, 0.25, 0.2, 0.1], rtol=1e-6)
    assert rows.tolist() == [1, 0, 1, 0, 2, 2]


@pytest.mark.parametrize(
    ("label", "topk", "max_seg_num", "number"),
    [
        ("one class", 1, 200, 3),
        ("more classes than there are", 9, 200, 9),
        ("best segment", 2, 1, 2),
        ("none", 2, 0, 0),
    ],
)
def test_sizes(label: str, topk: int, max_seg_num: int, number: int) -> None:
    rows, scores, label_ids = fuse_external_scores(SCORES, np.array([0.1, 0.2, 0.3]), topk, max_seg_num)
    assert rows.shape == scores.shape == label_ids.shape == (number,)
    assert scores.dtype == np.float32
    assert rows.dtype == label_ids.dtype == np.int64
    assert (np.diff(scores) <= 0).all()


def test_no_segments() -> None:
    rows, scores, label_ids = fuse_external_scores(np.zeros(0), np.ones(4), 2, 200)
    assert len(rows) == len(scores) == len(label_ids) == 0
