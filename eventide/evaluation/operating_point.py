"""A calibration fitted on detections with their verdicts, and what it is worth on the same or on other detections."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventide.evaluation.calibration import (
    ScaleRanges,
    expected_calibration_error,
    fit_scale,
    fit_temperature,
    scale_ranges,
)
from eventide.evaluation.judged import Judged
from eventide.types import EventideError

LEVELS = (0.5, 0.8, 0.95)  # shares of true boundaries that the intervals claim to hold
FITTED = 1  # the level at which the scale is made right
# What `Judged.quantiles` has: lower ends of the intervals from the widest on, then the upper ends back to it.
QUANTILES = tuple(sorted(round(0.5 + side * level / 2, 6) for level in LEVELS for side in (-1, 1)))
DIGITS = 1e6  # thresholds are rounded down, scales up, at the sixth digit, so that nothing on the edge is lost


@dataclass(frozen=True)
class Calibration:
    """What is fitted: C classes."""

    temperature: float
    thresholds: np.ndarray  # (C,) lowest score at the operating point
    common_threshold: float  # the threshold of all classes together
    why_common: list[str]  # (C,) why a class takes that one; empty: it has its own
    std_scale: float | None  # None: the model has no intervals, or none of its scales fits

    def chosen(self, judged: Judged) -> Judged:
        """The detections above the operating point."""
        return judged.take(judged.scores >= self.thresholds.astype(np.float32)[judged.label_ids])


def fit_calibration(
    judged_at: Callable[[float], Judged], num_classes: int, loss_at: Callable[[float], float] | None = None
) -> Calibration:
    """Fit everything on the verdicts that `judged_at` gives for a temperature; `loss_at`, if given, knows the sum of
    their costs.

    Raises:
        EventideError: no detection is right.
    """
    if not judged_at(1.0).right.any():
        raise EventideError(
            "no detection finds an event: there is nothing to calibrate on; is the model trained, and are these "
            "recordings of its kind?"
        )
    temperature = round(fit_temperature(loss_at or (lambda value: float(judged_at(value).costs().sum()))), 4)
    judged = judged_at(temperature)
    common, thresholds, why = judged.best_threshold()[0], np.zeros(num_classes), []
    for label_id in range(num_classes):
        threshold, f1 = judged.best_threshold(label_id)
        has_events = (judged.event_label_ids == label_id).any()
        why.append("" if f1 > 0 else "none of its events was found" if has_events else "it has no events here")
        thresholds[label_id] = threshold if f1 > 0 else common
    fitted = Calibration(temperature, _floor(thresholds), float(_floor(np.float64(common))), why, None)
    if judged.quantiles is None:
        return fitted
    scale = fit_scale(intervals(fitted.chosen(judged))[FITTED], LEVELS[FITTED])
    scale = None if scale is None else math.ceil(scale * DIGITS) / DIGITS
    return Calibration(temperature, fitted.thresholds, fitted.common_threshold, why, scale)


def _floor(scores: Any) -> Any:
    return np.floor(scores * DIGITS) / DIGITS


def intervals(judged: Judged) -> list[ScaleRanges]:
    """For each of `LEVELS`, the scales with which the intervals of right detections hold their true boundaries; empty
    where the model has no intervals.
    """
    rows = judged.right & (judged.quantiles is not None)
    truth, found = judged.event_segments[judged.event[rows]].ravel(), judged.segments[rows].ravel()
    ends = np.zeros((0, 2, len(QUANTILES))) if judged.quantiles is None else judged.quantiles[rows]
    columns = [(QUANTILES.index(round(0.5 - p / 2, 6)), QUANTILES.index(round(0.5 + p / 2, 6))) for p in LEVELS]
    return [scale_ranges(truth, found, ends[..., low].ravel(), ends[..., high].ravel()) for low, high in columns]


@dataclass(frozen=True)
class Measured:
    """What detections are worth before and after calibration; sums, so that parts can be put together."""

    before: tuple[np.ndarray, np.ndarray]  # (D,) scores and verdicts
    after: tuple[np.ndarray, np.ndarray]  # (D',)
    likelihoods: np.ndarray  # (2,) negative log likelihood before and after, nats
    counts: np.ndarray  # (C, 3) events, detections above the operating point, right ones of these
    common_counts: np.ndarray  # (3,) the same with one threshold for all classes
    boundaries: int | None  # of the events that these found; None: the model has no intervals
    inside: np.ndarray  # (2, levels) of these inside the interval, before and after

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; lists of coverage go by `LEVELS`."""
        events = int(self.counts[:, 0].sum())
        before, after = (expected_calibration_error(*state).to_dict() for state in (self.before, self.after))
        content: dict[str, Any] = {
            "events": events,
            "calibration_error": {"before": before, "after": after},
            "negative_log_likelihood": dict(
                zip(("before", "after"), (self.likelihoods / max(events, 1)).tolist(), strict=True)
            ),
            "operating_point": precision_recall_f1(self.counts.sum(axis=0)),
            "common_operating_point": precision_recall_f1(self.common_counts),
        }
        if self.boundaries is not None:
            shares = (self.inside / max(self.boundaries, 1)).tolist()
            content["intervals"] = {
                "boundaries": self.boundaries,
                "levels": list(LEVELS),
                "coverage": {"before": shares[0], "after": shares[1]},
            }
        return content


def precision_recall_f1(counts: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 from numbers of events, detections and right detections; 0 where there are none."""
    events, found, right = (int(number) for number in counts)
    return {
        "events": events,
        "detections": found,
        "right": right,
        "precision": right / max(found, 1),
        "recall": right / max(events, 1),
        "f1": 2 * right / max(events + found, 1),
    }


def measure(before: Judged, after: Judged, fitted: Calibration) -> Measured:
    """Measure a calibration on verdicts at temperature 1 and at the fitted one."""
    chosen, classes = fitted.chosen(after), len(fitted.thresholds)
    counted = (after.event_label_ids, chosen.label_ids, chosen.label_ids[chosen.right])
    common = after.take(after.scores >= np.float32(fitted.common_threshold))
    ranges, scales = intervals(chosen), (1.0, fitted.std_scale or 1.0)
    number = len(ranges[0].lowest)
    inside = [[round(r.coverage(scale) * number) for r in ranges] for scale in scales]
    return Measured(
        before=(before.scores, before.right),
        after=(after.scores, after.right),
        likelihoods=np.array([judged.costs().sum() for judged in (before, after)]),
        counts=np.stack([np.bincount(label_ids, minlength=classes) for label_ids in counted], axis=1),
        common_counts=np.array([len(after.event_label_ids), len(common.scores), common.right.sum()]),
        boundaries=None if after.quantiles is None else number,
        inside=np.array(inside),
    )


def together(parts: Sequence[Measured]) -> Measured:
    """Several parts as one: what was measured on each stays, sums are added; at least one."""
    boundaries = [part.boundaries for part in parts if part.boundaries is not None]
    before, after = ([getattr(part, name) for part in parts] for name in ("before", "after"))
    return Measured(
        before=(np.concatenate([scores for scores, _ in before]), np.concatenate([right for _, right in before])),
        after=(np.concatenate([scores for scores, _ in after]), np.concatenate([right for _, right in after])),
        likelihoods=np.sum([part.likelihoods for part in parts], axis=0),
        counts=np.sum([part.counts for part in parts], axis=0),
        common_counts=np.sum([part.common_counts for part in parts], axis=0),
        boundaries=sum(boundaries) if boundaries else None,
        inside=np.sum([part.inside for part in parts], axis=0),
    )
