"""How far two annotators of the same recordings lie apart: an estimate of the noise in the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eventide.data.survey import point_rows
from eventide.types import Recording

FEWEST_PAIRS = 10  # below, a standard deviation says little
FARTHEST = 5.0  # robust standard deviations from the median: pairs beyond are two different events
MAD_TO_STD = 1.4826  # of a normal distribution, its standard deviation over its median absolute deviation


@dataclass(frozen=True)
class Disagreement:
    """Boundary differences (second annotator less first) of events that both have. Times are seconds."""

    pairs: int  # events that were matched, without those left out
    only_first: int  # events of the first annotator, of shared recordings, without a partner
    only_second: int
    recordings: int  # that both have
    bias: float  # mean difference
    difference: float  # standard deviation of the differences around their mean
    largest: float  # absolute difference
    left_out: int = 0  # pairs too far apart to be one event; they count nowhere else

    @property
    def noise(self) -> float:
        """Standard deviation of one annotator's boundaries, if both are equally careful and independent."""
        return float(self.difference / np.sqrt(2))

    @property
    def without(self) -> str:
        """What to add where the number of pairs is told: how many were left out, if any."""
        return f", without {self.left_out} pair(s) too far apart to be one event" if self.left_out else ""


def disagreement(
    first: Mapping[str, Recording], second: Mapping[str, Recording], first_labels: list[str], second_labels: list[str]
) -> Disagreement:
    """Compare two annotations by recording id and label.

    Segments of one class are matched one to one, the best overlap first, as long as they overlap; point events when
    each is the other's nearest. A click that one of them missed may so be matched to a far one; only `usual` pairs
    count.
    """
    found = [np.zeros((0, 2))]
    names: list[str] = []  # label of each pair
    missed = extra = 0
    shared = [name for name in first if name in second]
    for name in shared:
        partners: dict[str, list[np.ndarray]] = {}
        for side, (recording, labels) in enumerate(((first[name], first_labels), (second[name], second_labels))):
            for label_id in np.unique(recording.label_ids):
                groups = partners.setdefault(labels[label_id], [np.zeros((0, 2)), np.zeros((0, 2))])
                groups[side] = recording.segments[recording.label_ids == label_id]
        points = bool(point_rows(first[name]).any() or point_rows(second[name]).any())
        for label, (mine, theirs) in partners.items():
            matched = match_points(mine[:, 0], theirs[:, 0]) if points else match_segments(mine, theirs)
            change = theirs[matched[:, 1]] - mine[matched[:, 0]]
            found.append(np.where([True, not points], change, np.nan))  # a point has one time
            names += [label] * len(matched)
            missed += len(mine) - len(matched)
            extra += len(theirs) - len(matched)
    differences = np.concatenate(found)
    kept = usual(differences, np.array(names))
    values = differences[kept]
    values = values[~np.isnan(values)]
    return Disagreement(
        int(kept.sum()),
        missed,
        extra,
        len(shared),
        float(values.mean()) if len(values) else 0.0,
        float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        float(np.abs(values).max(initial=0.0)),
        int((~kept).sum()),
    )


def usual(differences: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Which pairs lie near enough to be one event: (P,) bool of differences (P, 2), NaN where a pair has but one.

    At no boundary are they more than FARTHEST robust standard deviations (1.4826 times the median absolute deviation)
    from the median of their class; classes of fewer than FEWEST_PAIRS pairs are taken together. `names` (P,): classes.
    """
    kept = np.ones(len(differences), dtype=bool)
    classes, group, counts = np.unique(names, return_inverse=True, return_counts=True)
    group = np.where(counts[group] < FEWEST_PAIRS, len(classes), group) if len(names) else group
    for number in np.unique(group):
        for column in (0, 1):
            rows = np.flatnonzero((group == number) & ~np.isnan(differences[:, column]))
            if not len(rows):
                continue
            values = differences[rows, column]
            away = np.abs(values - np.median(values)).round(6)  # whole microseconds: less is rounding
            middle = np.median(away)
            if middle == 0 and away.any():  # most are equal, as after rounding: that says nothing of the others
                middle = np.median(away[away > 0])
            kept[rows[away > FARTHEST * MAD_TO_STD * middle]] = False
    return kept


def match_segments(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, 2) rows of segments (N, 2) and (K, 2) that belong together: best tIoU first, one to one, overlapping."""
    inner = np.minimum(first[:, None, 1], second[None, :, 1]) - np.maximum(first[:, None, 0], second[None, :, 0])
    outer = np.maximum(first[:, None, 1], second[None, :, 1]) - np.minimum(first[:, None, 0], second[None, :, 0])
    overlap = np.where(inner > 0, inner / np.maximum(outer, 1e-9), 0.0)
    rows, columns = np.nonzero(overlap)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    matched: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken[0] and column not in taken[1]:
            matched.append((row, column))
            taken[0].add(row)
            taken[1].add(column)
    return np.array(matched, dtype=np.int64).reshape(-1, 2)


def match_points(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, 2) indices of times (N,) and (K,) that are each other's nearest."""
    if not len(first) or not len(second):
        return np.zeros((0, 2), dtype=np.int64)
    distance = np.abs(first[:, None] - second[None, :])
    nearest, back = distance.argmin(axis=1), distance.argmin(axis=0)
    rows = np.flatnonzero(back[nearest] == np.arange(len(first)))
    return np.stack([rows, nearest[rows]], axis=1)
