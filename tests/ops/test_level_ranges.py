"""Levels and regression ranges from event lengths: no event out of reach, a share for every level."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.assign import eligible_points
from eventide.ops.level_ranges import Levels, choose_levels, level_below, level_shares
from eventide.ops.points import pyramid_points


def drawn(name: str) -> np.ndarray:
    """2,000 lengths in grid steps."""
    rng = np.random.default_rng(0)
    return {
        "log-normal": np.exp(rng.normal(3.0, 1.0, 2000)).clip(1.5),
        "log-normal, wide": np.exp(rng.normal(4.0, 1.6, 2000)).clip(1.5),
        "log-normal, long": np.exp(rng.normal(6.5, 0.7, 2000)),
        "uniform": rng.uniform(4, 200, 2000),
    }[name]


def eligible_per_level(lengths: np.ndarray, levels: Levels, radius: float | None, offset: float = 0.0) -> np.ndarray:
    """Eligible points (N, levels) of events that are alone in their recording, at a place within it."""
    found = []
    for length in lengths:
        steps = int(np.ceil(length + offset)) + 1
        strides = [2**level for level in range(levels.start, levels.last + 1)]
        sizes = [-(-steps // stride) for stride in strides]
        points = pyramid_points(sizes, strides, levels.ranges)
        segment = torch.tensor([[[offset, offset + length]]], dtype=torch.float64)
        eligible = eligible_points(points, segment, torch.zeros(1, 1, dtype=torch.int64), radius)[0][0, :, 0].numpy()
        found.append([part.sum() for part in np.split(eligible, np.cumsum(sizes)[:-1])])
    return np.array(found)


@pytest.mark.parametrize(
    ("label", "lengths"),
    [
        ("constant", np.full(10, 100.0)),
        ("one event", np.array([37.5])),
        ("barely a step", np.array([1.01, 1.2])),
        ("bimodal", np.concatenate([np.linspace(3, 5, 40), np.linspace(900, 1100, 40)])),
        ("very long", np.array([40_000.0, 70_000.0])),
        ("from one to very long", np.geomspace(1.1, 20_000, 60)),
    ],
)
@pytest.mark.parametrize("radius", [1.5, None])
@pytest.mark.parametrize("offset", [0.0, 0.37, 5.5])
def test_no_event_is_out_of_reach(label: str, lengths: np.ndarray, radius: float | None, offset: float) -> None:
    levels = choose_levels(lengths, int(lengths.max()) + 10)
    assert (eligible_per_level(lengths, levels, radius, offset).sum(axis=1) > 0).all(), levels


@given(
    lengths=st.lists(st.floats(1.01, 3000), min_size=1, max_size=12),
    offset=st.floats(0, 70),
    radius=st.sampled_from([1.5, None]),
    last=st.sampled_from([None, 0, 2, 5]),
)
def test_no_event_is_out_of_reach_whatever_the_lengths(
    lengths: list[float], offset: float, radius: float | None, last: int | None
) -> None:
    values = np.array(lengths)
    levels = choose_levels(values, int(values.max()) + 80, last)
    assert (eligible_per_level(values, levels, radius, offset).sum(axis=1) > 0).all(), levels


@given(
    lengths=st.lists(st.floats(0.05, 1e5), min_size=1, max_size=30),
    longest=st.integers(1, 10**6),
    last=st.sampled_from([None, 0, 1, 5, 7]),
)
def test_the_form_of_ranges(lengths: list[float], longest: int, last: int | None) -> None:
    levels = choose_levels(np.array(lengths), longest, last)
    assert 0 <= levels.start <= levels.last <= 10
    assert last is None or levels.last == last
    assert len(levels.ranges) == levels.last - levels.start + 1
    assert levels.ranges[0][0] == 0
    assert all(low < high for low, high in levels.ranges)
    assert all(one[1] == two[0] for one, two in pairwise(levels.ranges))
    assert levels.ranges[-1][1] >= max(10_000, *lengths)
    assert sum(level_shares(np.array(lengths), levels.ranges)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["log-normal", "log-normal, wide", "log-normal, long", "uniform"])
def test_every_level_gets_its_share(name: str) -> None:
    lengths = drawn(name)
    levels = choose_levels(lengths, 100_000)
    assert len(levels.ranges) >= 3
    assert min(level_shares(lengths, levels.ranges)) >= 0.05, level_shares(lengths, levels.ranges)
    assert (eligible_per_level(lengths[:300], levels, 1.5) > 0).mean(axis=0).min() >= 0.05


@pytest.mark.parametrize(
    ("label", "lengths", "longest", "expected"),
    [
        # Halves 1 to 2: one level would do; two more look farther. The bounds are the usual ones.
        ("short", [2, 3, 4], 1000, Levels(0, 2, ((0, 4), (4, 8), (8, 10_000)))),
        # Half 50: 8 strides of level 2 fit in, 1.5 of level 5 at most.
        ("constant", [100] * 5, 1000, Levels(2, 5, ((0, 16), (16, 32), (32, 65), (65, 10_000)))),
        # Halves 2, 6, 14, and four levels: the bound below the last is the largest that leaves it an event.
        ("one each", [4, 12, 28], 1000, Levels(0, 3, ((0, 4), (4, 8), (8, 13), (13, 10_000)))),
        # A stride of 8 has five points in 40 vectors, one of 16 would have three.
        ("short recordings", [100] * 5, 40, Levels(1, 3, ((0, 8), (8, 16), (16, 10_000)))),
        ("longer than the open range", [80_000], 40, Levels(1, 3, ((0, 8), (8, 16), (16, 1_000_000)))),
        ("levels given", [2, 3, 4], 1000, Levels(0, 0, ((0, 10_000),))),
    ],
)
def test_by_hand(label: str, lengths: list[float], longest: int, expected: Levels) -> None:
    last = 0 if label == "levels given" else None
    assert choose_levels(np.array(lengths, dtype=float), longest, last) == expected


@pytest.mark.parametrize(("size", "level"), [(0, 0), (0.3, 0), (1, 0), (1.99, 0), (2, 1), (1023, 9), (1024, 10)])
def test_level_below(size: float, level: int) -> None:
    assert level_below(size) == level
