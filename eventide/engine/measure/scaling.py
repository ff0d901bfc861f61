"""How a cost grows with the length: a straight line through the points, and the exponent of a power law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eventide.engine.measure.results import Row

LEAST_POINTS = 3  # a line through two points always fits


@dataclass(frozen=True)
class Fit:
    """cost = slope * length + intercept, with the share of the variance that the line explains."""

    slope: float
    intercept: float
    r_squared: float
    exponent: float | None  # of cost = factor * length ** exponent: 1 is linear, 2 quadratic; None with costs of 0
    points: int


def fit_line(lengths: Sequence[float], costs: Sequence[float]) -> Fit | None:
    """Least squares over at least three different lengths; None with fewer."""
    x, y = np.asarray(lengths, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if len(np.unique(x)) < LEAST_POINTS:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    around_mean = float(((y - y.mean()) ** 2).sum())
    around_line = float(((y - (slope * x + intercept)) ** 2).sum())
    r_squared = 1.0 - around_line / around_mean if around_mean > 0 else 1.0
    exponent = None
    if (x > 0).all() and (y > 0).all():
        exponent = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    return Fit(float(slope), float(intercept), r_squared, exponent, len(x))


def fit_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Fits of seconds and memory for each work and batch size that has three lengths or more."""
    found: list[dict[str, Any]] = []
    for work, batch in dict.fromkeys((row.work, row.batch) for row in rows):
        curve = [row for row in rows if (row.work, row.batch) == (work, batch)]
        costs: dict[str, list[tuple[int, float]]] = {
            "seconds": [(row.length, row.seconds) for row in curve if row.seconds is not None],
            "memory_bytes": [(row.length, row.memory.above_input) for row in curve if row.memory is not None],
        }
        for quantity, points in costs.items():
            fit = fit_line([length for length, _ in points], [cost for _, cost in points])
            if fit is not None:
                found.append({"work": work, "batch": batch, "quantity": quantity, **asdict(fit)})
    return found
