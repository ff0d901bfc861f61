"""How far two annotators of the same recordings lie apart: an estimate of the noise in the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eventide.data.survey import point_rows
from eventide.types import Recording

FEWEST_PAIRS = 10  # below, a standard deviation says little


@dataclass(frozen=True)
class Disagreement:
    """Boundary differences (second annotator less first) of events that both have. Times are seconds."""

    pairs: int  # events that were matched
    only_first: int  # events of the first annotator, of shared recordings, without a partner
    only_second: int
    recordings: int  # that both have
    bias: float  # mean difference
    difference: float  # standard deviation of the differences around their mean
    largest: float  # absolute difference

    @property
    def noise(self) -> float:
        """Standard deviation of one annotator's boundaries, if both are equally careful and independent."""
        return float(self.difference / np.sqrt(2))


def disagreement(
    first: Mapping[str, Recording], second: Mapping[str, Recording], first_labels: list[str], second_labels: list[str]
) -> Disagreement:
    """Compare two annotations by recording id and label.

    Segments of one class are matched one to one, the best overlap first, as long as they overlap; point events when
    each is the other's nearest.
    """
    differences = [np.zeros(0)]
    pairs = missed = extra = 0
    shared = [name for name in first if name in second]
    for name in shared:
        one, two = first[name], second[name]
        partners: dict[str, list[np.ndarray]] = {}
        for side, (recording, labels) in enumerate(((one, first_labels), (two, second_labels))):
            for label_id in np.unique(recording.label_ids):
                groups = partners.setdefault(labels[label_id], [np.zeros((0, 2)), np.zeros((0, 2))])
                groups[side] = recording.segments[recording.label_ids == label_id]
        points = bool(point_rows(one).any() or point_rows(two).any())
        for mine, theirs in partners.values():
            matched = match_points(mine[:, 0], theirs[:, 0]) if points else match_segments(mine, theirs)
            found = theirs[matched[:, 1]] - mine[matched[:, 0]]
            differences.append(found[:, 0] if points else found.ravel())
            pairs += len(matched)
            missed += len(mine) - len(matched)
            extra += len(theirs) - len(matched)
    values = np.concatenate(differences)
    if not len(values):
        return Disagreement(0, missed, extra, len(shared), 0.0, 0.0, 0.0)
    return Disagreement(
        pairs,
        missed,
        extra,
        len(shared),
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        float(np.abs(values).max()),
    )


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
