"""ops/points.py: where the points of a pyramid lie."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch

from eventide.ops.points import Points, pyramid_points


def test_finest_level_first() -> None:
    points = pyramid_points((3, 2), (1, 4), [(0, 4), (4, math.inf)])
    assert points.position.tolist() == [0, 1, 2, 0, 4]
    assert points.stride.tolist() == [1, 1, 1, 4, 4]
    assert points.nearest.tolist() == [0, 0, 0, 4, 4]
    assert points.farthest.tolist() == [4, 4, 4, math.inf, math.inf]
    assert all(getattr(points, field.name).dtype == torch.float32 for field in fields(Points))


@pytest.mark.parametrize(
    ("label", "lengths", "strides", "number"),
    [
        ("one point", (1,), (1,), 1),
        ("a level without points", (4, 0), (1, 2), 4),
        ("levels of odd lengths", (7, 4, 2, 1), (1, 2, 4, 8), 14),
    ],
)
def test_numbers(label: str, lengths: tuple[int, ...], strides: tuple[int, ...], number: int) -> None:
    points = pyramid_points(lengths, strides, [(0, 4)] * len(lengths))
    assert all(getattr(points, field.name).shape == (number,) for field in fields(Points))


def test_positions_stay_exact_in_long_recordings() -> None:
    last = pyramid_points((2**17,), (64,), [(0, math.inf)]).position[-1]
    assert last.item() == (2**17 - 1) * 64


@pytest.mark.parametrize(
    ("label", "strides", "ranges"),
    [("a stride is missing", (1,), [(0, 4), (4, 8)]), ("a range is missing", (1, 2), [(0, 4)])],
)
def test_each_level_needs_a_stride_and_a_range(
    label: str, strides: tuple[int, ...], ranges: list[tuple[float, float]]
) -> None:
    with pytest.raises(ValueError, match="argument"):
        pyramid_points((3, 2), strides, ranges)
