"""What is known of the events themselves, applied to detections: how long they last, how near two of them come.

Within a class, detections are visited by falling score (ties in the order given) and one that breaks a rule beside a
better one that stayed is dropped. A detection that breaks no limit by more than rounding stays: times are float32, and
users write "0.3 seconds" where the grid says 0.29999995.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eventide.ops.compiled import compiled

ROUNDING = 4 * 2.0**-23  # of a time in float32, relative: a few operations, each off by half a step


@dataclass(frozen=True)
class Rules:
    """Rules of each class, (classes,) float64; the defaults of `of_all` forbid nothing."""

    lowest_score: np.ndarray  # what scores less is dropped
    shortest: np.ndarray  # seconds
    longest: np.ndarray
    min_gap: (
        np.ndarray
    )  # seconds from the end of an event to the start of the next; overlapping ones have a gap below 0
    max_overlap: np.ndarray  # tIoU of two events

    @classmethod
    def of_all(
        cls,
        classes: int,
        *,
        lowest_score: float = -np.inf,
        shortest: float = -np.inf,
        longest: float = np.inf,
        min_gap: float = -np.inf,
        max_overlap: float = 1.0,
    ) -> Rules:
        """The same rules for every one of so many classes."""
        values = (lowest_score, shortest, longest, min_gap, max_overlap)
        return cls(*(np.full(classes, value, np.float64) for value in values))


def allowed(segments: np.ndarray, scores: np.ndarray, label_ids: np.ndarray, rules: Rules, most: int) -> np.ndarray:
    """Which detections of one recording obey the rules of their class: at most `most` indices, by falling score.

    Args:
        segments, scores, label_ids: (N, 2) start and end in seconds, (N,), (N,) less than the number of classes in
            `rules`. Of a point event both ends are its time, so that the gap is the distance of two.
        most: where to stop. Weaker detections could not change what was kept before them.
    """
    segments = np.ascontiguousarray(segments, dtype=np.float64).reshape(-1, 2)
    label_ids = np.asarray(label_ids, dtype=np.int64)
    lengths, slack = segments[:, 1] - segments[:, 0], ROUNDING * np.abs(segments).max(axis=1, initial=0.0)
    broken = np.asarray(scores) < rules.lowest_score.astype(np.float32)[label_ids]
    broken |= lengths < rules.shortest[label_ids] - slack
    broken |= lengths > rules.longest[label_ids] + slack
    rows = np.flatnonzero(~broken)  # what is not a number breaks no rule: it stays, to be seen
    rows = rows[np.argsort(-np.asarray(scores)[rows], kind="stable")]
    return _spaced(segments, label_ids, rows, rules.min_gap, rules.max_overlap, max(most, 0))


@compiled
def _spaced(segments, label_ids, rows, min_gap, max_overlap, most):  # type: ignore[no-untyped-def]
    """Those of `rows` that keep their distance from every earlier one of their class, at most `most` of them."""
    last = np.full(len(min_gap), -1)  # place in `kept` of the last one of each class; `previous` chains to the others
    kept = np.empty(min(most, len(rows)), dtype=np.int64)
    previous = np.empty(len(kept), dtype=np.int64)
    count = 0
    for row in rows:
        if count == len(kept):
            break
        start, end, label = segments[row, 0], segments[row, 1], label_ids[row]
        place = last[label]
        while place >= 0:
            other_start, other_end = segments[kept[place], 0], segments[kept[place], 1]
            gap = max(start, other_start) - min(end, other_end)
            hull = max(end, other_end) - min(start, other_start)
            slack = ROUNDING * max(abs(start), abs(end), abs(other_start), abs(other_end))
            # overlapping segments share -gap, and their hull is then their union
            if gap < min_gap[label] - slack or -gap - max_overlap[label] * hull > slack:
                break
            place = previous[place]
        if place < 0:
            previous[count] = last[label]
            last[label] = count
            kept[count] = row
            count += 1
    return kept[:count]
