"""How far scores and intervals can be believed, and the numbers that mend them: temperature, thresholds, scale.

A score is calibrated when of all detections that score s a share of s is right, an interval when it holds as many true
boundaries as it claims. Everything here works on plain arrays: D detections, `right` says which of them found an event.

Scores below `FLOOR` are left out of the calibration error and read as `FLOOR` by the likelihood. A detector returns
thousands of detections that it does not believe in itself; nobody reads their scores, yet by their number they would
decide both: the error would be small for any model, and the temperature would be fitted to them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOOR = 0.05
NUM_BINS = 15
LEAST_IN_BIN = 10  # detections: the share right of fewer is mostly chance
CERTAIN = 1e-7  # scores are kept this far from 0 and 1, where their logits would be infinite
GRID = [step / 8 * math.log(10) for step in range(-8, 9)]  # logarithms of temperatures from 0.1 to 10; 1 is among them
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Reliability:
    """Scores against shares of right detections in B bins of rising score."""

    error: float  # expected calibration error; 0 without detections
    count: int  # detections that score `FLOOR` or more
    numbers: np.ndarray  # (B,) detections in each bin
    mean_scores: np.ndarray  # (B,)
    shares_right: np.ndarray  # (B,)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON."""
        return {
            "error": self.error,
            "detections": self.count,
            "bins": {
                "number": self.numbers.tolist(),
                "mean_score": self.mean_scores.tolist(),
                "share_right": self.shares_right.tolist(),
            },
        }


def expected_calibration_error(
    scores: np.ndarray,
    right: np.ndarray,
    *,
    num_bins: int = NUM_BINS,
    least_in_bin: int = LEAST_IN_BIN,
    floor: float = FLOOR,
) -> Reliability:
    """Mean over detections of |mean score - share right| in their bin (Naeini et al. 2015; Guo et al. 2017).

    Bins hold equally many detections, not equal ranges of scores, of which most would be almost empty (adaptive
    calibration error, Nixon et al. 2019); there are fewer bins than `num_bins` where one would hold less than
    `least_in_bin`. Detections with equal scores share a bin, so their order changes nothing; empty bins are left out.
    `scores` (D,), `right` (D,) bool; detections that score less than `floor` do not count.
    """
    kept = scores >= floor
    scores, right = np.asarray(scores, np.float64)[kept], np.asarray(right)[kept]
    if len(scores) == 0:
        return Reliability(0.0, 0, np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    order = np.argsort(scores, kind="stable")
    scores, right = scores[order], right[order]
    first_of_equals = np.searchsorted(scores, scores)
    bins = first_of_equals * max(min(num_bins, len(scores) // least_in_bin), 1) // len(scores)
    numbers = np.bincount(bins)
    used = numbers > 0
    numbers = numbers[used]
    means = np.bincount(bins, scores)[used] / numbers
    shares = np.bincount(bins, right)[used] / numbers
    return Reliability(float(np.abs(means - shares) @ numbers / len(scores)), len(scores), numbers, means, shares)


def scale_scores(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Scores (D,) whose logits are divided by a temperature above 0, in the type of `scores`.

    What a decoder with this temperature gives (Guo et al. 2017, section 4.2), from the scores of one without.
    """
    if temperature == 1:
        return scores
    certain = np.clip(np.asarray(scores, np.float64), 1e-300, 1 - CERTAIN)
    logits = np.log(certain) - np.log1p(-certain)
    with np.errstate(over="ignore"):  # exp gives inf, and the score 0
        return (1 / (1 + np.exp(-logits / temperature))).astype(scores.dtype)


def costs(scores: np.ndarray, right: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
    """Negative log likelihood (D,) of each verdict under its score, in nats; 0 is best.

    Scores below `floor` are read as `floor`, and wrong detections cost what they cost more than one at `floor`. So
    wrong detections that appear or vanish below the floor change nothing, and sums over different sets of detections
    can be compared, if every event that none of them found adds `cost_of_missing`.
    """
    certain = np.clip(np.asarray(scores, np.float64), floor, 1 - CERTAIN)
    return np.where(right, -np.log(certain), np.log1p(-floor) - np.log1p(-certain))


def cost_of_missing(floor: float = FLOOR) -> float:
    """What an event costs that no detection found: as much as one found with a score of `floor`."""
    return -math.log(floor)


def fit_temperature(loss: Callable[[float], float], steps: int = 10) -> float:
    """The temperature between 0.1 and 10 with the least loss; of equals that nearest to 1.

    `loss` may have small jumps, since another temperature gives other detections: it is evaluated on a grid first,
    then by golden sections around the best point of the grid, and the best of all evaluated is taken. 10 steps find
    it to a percent.
    """
    losses: dict[float, float] = {}

    def at(log: float) -> float:
        losses[math.exp(log)] = loss(math.exp(log))
        return losses[math.exp(log)]

    on_grid = [at(log) for log in GRID]
    best = min(range(len(GRID)), key=lambda i: (on_grid[i], abs(GRID[i])))
    low, high = GRID[max(best - 1, 0)], GRID[min(best + 1, len(GRID) - 1)]
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = at(left), at(right)
    for _ in range(steps - 2):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = at(right)
    return min(losses, key=lambda temperature: (losses[temperature], abs(math.log(temperature))))


def best_f1_threshold(scores: np.ndarray, right: np.ndarray, num_events: int) -> tuple[float, float]:
    """The score from which detections (D,) give the best F1, and that F1; of equals the highest score.

    `num_events` are those that could be found. Without detections both are 0.
    """
    if len(scores) == 0:
        return 0.0, 0.0
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(scores) + 1) + num_events)
    last_of_equals = np.append(scores[1:] < scores[:-1], True)
    best = int(np.argmax(np.where(last_of_equals, f1, -1.0)))
    return float(scores[best]), float(f1[best])


@dataclass(frozen=True)
class ScaleRanges:
    """Of N boundaries, the factors on the interval with which it holds the true one: `lowest` to `highest`."""

    lowest: np.ndarray  # (N,); inf: none
    highest: np.ndarray  # (N,); inf nearly always, finite where the whole interval lies on one side of the boundary

    def coverage(self, scale: float) -> float:
        """Share of true boundaries inside the interval that is stretched by `scale`; 0 where there is none."""
        return float(((self.lowest <= scale) & (scale <= self.highest)).mean()) if len(self.lowest) else 0.0

    def take(self, rows: np.ndarray) -> ScaleRanges:
        """Those at `rows`: indices or a mask."""
        return ScaleRanges(self.lowest[rows], self.highest[rows])


def scale_ranges(truth: np.ndarray, boundary: np.ndarray, low: np.ndarray, high: np.ndarray) -> ScaleRanges:
    """By which factors the intervals [low, high] have to be stretched about `boundary` to hold `truth`; all (N,).

    That is |truth - boundary| over the width of the interval on that side. A quantile beyond the boundary makes that
    width negative: then no factor reaches the true boundary on this side, and on the other only small ones keep it.
    """
    error = truth - boundary
    before = error < 0
    ahead = np.where(before, boundary - low, high - boundary)  # width on the side of the true boundary
    behind = np.where(before, boundary - high, low - boundary)  # how far the other end keeps off the boundary
    distance = np.abs(error)
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = np.where(ahead > 0, distance / ahead, np.where((distance == 0) & (ahead == 0), 0.0, np.inf))
        highest = np.where(behind > 0, distance / behind, np.inf)
    return ScaleRanges(lowest, highest)


def interval_coverage(
    truth: np.ndarray, boundary: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float = 1.0
) -> float:
    """Share of `truth` (N,) inside [low, high] (N,) stretched by `scale` about `boundary` (N,); 0 for none."""
    return scale_ranges(truth, boundary, low, high).coverage(scale)


def fit_scale(ranges: ScaleRanges, level: float) -> float | None:
    """The smallest factor with which intervals hold at least a share of `level` of the true boundaries.

    It is one of the factors at which a boundary enters, so no grid is searched: the level-quantile of the least factors
    where every interval holds its boundary (Kuleshov et al. 2018 recalibrate by quantiles likewise). None where no
    factor above 0 reaches that share at a boundary.
    """
    enter, leave = np.sort(ranges.lowest), np.sort(ranges.highest)
    factors = np.unique(enter[(enter > 0) & np.isfinite(enter)])
    inside = np.searchsorted(enter, factors, side="right") - np.searchsorted(leave, factors, side="left")
    enough = np.flatnonzero(inside >= math.ceil(level * len(enter) - 1e-9))
    return float(factors[enough[0]]) if len(enough) else None
