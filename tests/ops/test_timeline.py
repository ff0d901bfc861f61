"""ops/timeline.py: grid positions to seconds and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.timeline import grid_to_seconds, seconds_to_grid

POSITIVE = st.floats(0.1, 200)


@pytest.mark.parametrize(
    ("label", "grid", "fps", "feat_stride", "num_frames", "seconds"),
    [
        ("first vector stands for the middle of its frames", 0.0, 30.0, 4.0, 16.0, 8 / 30),
        ("next vector", 1.0, 30.0, 4.0, 16.0, 12 / 30),
        ("one vector a second", 7.0, 1.0, 1.0, 0.0, 7.0),
        ("between vectors", 2.5, 10.0, 5.0, 10.0, 1.75),
        ("before the first vector", -1.0, 25.0, 16.0, 32.0, 0.0),
    ],
)
def test_by_hand(label: str, grid: float, fps: float, feat_stride: float, num_frames: float, seconds: float) -> None:
    assert grid_to_seconds(grid, fps, feat_stride, num_frames) == pytest.approx(seconds)
    assert seconds_to_grid(seconds, fps, feat_stride, num_frames) == pytest.approx(grid, abs=1e-12)


@given(st.floats(-1e5, 1e5), POSITIVE, POSITIVE, st.floats(0, 200))
def test_there_and_back(grid: float, fps: float, feat_stride: float, num_frames: float) -> None:
    seconds = grid_to_seconds(grid, fps, feat_stride, num_frames)
    assert seconds_to_grid(seconds, fps, feat_stride, num_frames) == pytest.approx(grid, rel=1e-9, abs=1e-9)
    assert grid_to_seconds(grid + 1, fps, feat_stride, num_frames) > seconds


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize("values", [[], [[0.0, 1.5], [3.0, 20.0]]])
def test_arrays_and_tensors(make: Any, values: list[Any]) -> None:
    seconds = grid_to_seconds(make(values), 25.0, 8.0, 16.0)
    assert type(seconds) is type(make(values))
    assert np.allclose(seconds, (np.array(values) * 8 + 8) / 25)
    assert np.allclose(seconds_to_grid(seconds, 25.0, 8.0, 16.0), values, atol=1e-5)
