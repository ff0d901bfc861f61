"""Which pyramid levels a set of events needs, and which distances each level should learn."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

# Share of the events that may be shorter than what the first level is made for, and longer than the last level's.
SHORT_SHARE, LONG_SHARE = 0.05, 0.05
# The first level with heads has at least this many strides in half of such a short event: boundaries stay exact.
FIRST_LEVEL_STRIDES = 8
# A bound lies between these multiples of the upper level's stride. Below the lower one an event may fall between two
# levels; above the upper one a level would have to see much farther than its attention does.
LEAST_STRIDES, MOST_STRIDES = 1.5, 8.0
# Least width of a level's range in its strides, for the same reason as LEAST_STRIDES.
LEAST_WIDTH = 1.25
USUAL_STRIDES = 2.0  # ActionFormer's; taken where the events do not care
TRIED = 64  # bounds tried per level
FEWEST_LEVELS = 3  # the coarse ones let the fine ones see farther, even where all events are short
DEEPEST_LEVEL = 10
OPEN_RANGE = 10000.0  # upper bound of the last level, unless events are longer


class Levels(NamedTuple):
    """Backbone levels `start` to `last` have heads; `ranges` are the distances (grid steps) that each learns."""

    start: int
    last: int
    ranges: tuple[tuple[float, float], ...]


def choose_levels(lengths: np.ndarray, longest_sequence: int, last: int | None = None) -> Levels:
    """Levels for events of `lengths` (N,) grid steps, N at least 1, in sequences of up to `longest_sequence` vectors.

    Every event counts once, at half its length: that is how far its centre is from its boundaries. The bounds spread
    the events over the levels as evenly (by squared differences of shares) as `LEAST_STRIDES`, `LEAST_WIDTH` and
    `MOST_STRIDES` allow. Every event longer than one stride of the first level has an eligible point (`ops.assign`,
    centre sampling with a radius of 1.5 or none): no range ends where no other begins, and no level is too coarse for
    what it answers for. `last` fixes the number of backbone levels.
    """
    half = np.sort(np.asarray(lengths, dtype=np.float64)) / 2
    deepest = min(DEEPEST_LEVEL, max(1, level_below(longest_sequence / 4)))
    shortest = min(float(np.quantile(half, SHORT_SHARE)) / FIRST_LEVEL_STRIDES, float(half[0]) * 1.99)
    start = min(level_below(shortest), max(0, deepest - FEWEST_LEVELS + 1))
    if last is None:
        last = level_below(float(np.quantile(half, 1 - LONG_SHARE)) / LEAST_STRIDES)
        last = min(max(last, start + FEWEST_LEVELS - 1), deepest)
    start = min(start, last)
    top = max(OPEN_RANGE, 10.0 ** math.ceil(math.log10(4 * float(half[-1]))))
    bounds = [0.0, *_even_bounds(half, start, last), top]
    return Levels(start, last, tuple(pairwise(bounds)))


def _even_bounds(half: np.ndarray, start: int, last: int) -> list[float]:
    """The bounds between the levels, by dynamic programming over the bounds tried for each; `half` is sorted."""
    even = 1 / (last - start + 1)
    tried = [np.zeros(1)]
    shares = [np.zeros(1)]  # of the events up to each bound
    costs = np.zeros(1)
    origins = []
    for level in range(start + 1, last + 1):
        bounds = _tried(half, 2.0**level)
        shares.append(np.searchsorted(half, bounds, side="right") / len(half))
        cost = costs[:, None] + (shares[-1][None, :] - shares[-2][:, None] - even) ** 2
        cost[bounds[None, :] < tried[-1][:, None] + LEAST_WIDTH * 2.0 ** (level - 1)] = np.inf
        origins.append(cost.argmin(axis=0))
        costs = cost.min(axis=0)
        tried.append(bounds)
    chosen = int((costs + (1 - shares[-1] - even) ** 2).argmin())
    found: list[float] = []
    for bounds, origin in zip(reversed(tried[1:]), reversed(origins), strict=True):
        found.insert(0, float(bounds[chosen]))
        chosen = int(origin[chosen])
    return found


def _tried(half: np.ndarray, stride: float) -> np.ndarray:
    """Whole numbers within the limits of a bound, the usual one first: the first of equally good ones is taken."""
    low, high = LEAST_STRIDES * stride, MOST_STRIDES * stride
    quantiles = np.quantile(half, np.linspace(0, 1, TRIED)).clip(low, high)
    bounds = np.unique(np.ceil(np.concatenate([np.geomspace(low, high, TRIED), quantiles])))
    return bounds[np.argsort(np.abs(np.log(bounds / (USUAL_STRIDES * stride))), kind="stable")]


def level_below(size: float) -> int:
    """The coarsest level whose stride, a power of two, is at most `size`; 0 where none is."""
    return max(0, math.floor(math.log2(size))) if size > 0 else 0


def level_shares(lengths: np.ndarray, ranges: tuple[tuple[float, float], ...]) -> list[float]:
    """Share of the events whose half length lies in each range, which is how `choose_levels` counts."""
    half = np.asarray(lengths, dtype=np.float64) / 2
    inner = [high for _, high in ranges[:-1]]
    counts = np.bincount(np.searchsorted(inner, half, side="left"), minlength=len(ranges))
    return [float(count) / max(len(half), 1) for count in counts]
