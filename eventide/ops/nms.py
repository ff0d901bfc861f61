"""Non-maximum suppression of segments in one dimension: soft (Gaussian) and hard, per class or across classes.

The numbers are those of the published ActionFormer kernels: float32 arithmetic, 1e-6 added to every length, candidates
visited in the same order, so that also exactly tied scores give the same result. The loops are numba functions that
release the GIL; nothing is compiled when the package is installed.

Where the published kernel suppresses every class to its end and then keeps the best `max_seg_num`, this one takes the
best candidate of all classes at each turn and stops when it has enough: a candidate's score never rises, so later turns
could not enter the result. Hard NMS visits equal scores by class and index, on every machine (the published one leaves
their order to a sort that is not stable).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple, ParamSpec

import numpy as np

from eventide.ops.compiled import compiled

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
P = ParamSpec("P")

ZERO = np.float32(0.0)
LENGTH_OFFSET = np.float32(1e-6)


class Kept(NamedTuple):
    """The candidates that suppression left, by falling score."""

    segments: np.ndarray  # (M, 2) float32, moved where voting moved them
    scores: np.ndarray  # (M,) float32, lowered where soft suppression lowered them
    label_ids: np.ndarray  # (M,) int64
    indices: np.ndarray  # (M,) int64, which of the given candidates each is


def nms(
    segments: np.ndarray,
    scores: np.ndarray,
    label_ids: np.ndarray,
    *,
    iou_threshold: float,
    min_score: float,
    max_seg_num: int,
    method: Literal["soft", "hard", "none"] = "soft",
    multiclass: bool = True,
    sigma: float = 0.5,
    voting_thresh: float = 0.0,
    use_diou: bool = False,
    class_sigma: np.ndarray | None = None,
) -> Kept:
    """Suppress overlapping candidates of one recording; the best `max_seg_num` by falling score.

    Args:
        segments, scores, label_ids: (N, 2) start and end in any unit, (N,) not negative, (N,) classes.
        iou_threshold: overlap from which `hard` removes a candidate. `soft` does not use it.
        min_score: `soft` drops a candidate whose score falls below it (the best one of a group always stays, as
            published), `hard` drops scores at or below it beforehand (where it is above 0), `none` those below it.
        max_seg_num: most detections returned, all classes together.
        method: `soft` multiplies the score by exp(-overlap^2 / sigma), `hard` removes, `none` only sorts and cuts.
        multiclass, sigma: suppress within each class, or across classes; width of `soft`.
        voting_thresh: across classes, kept segments become the mean of all that overlap them this much; 0: off.
        use_diou: take the squared distance of the centres, relative to the hull, off the overlap.
        class_sigma: (classes,) width of `soft` per label id, with `multiclass` only.
    """
    if method not in ("soft", "hard", "none"):
        raise ValueError(f"unknown NMS method {method!r}: soft, hard or none")
    if not multiclass and class_sigma is not None:
        raise ValueError("class_sigma has a meaning only where each class is suppressed by itself (multiclass)")
    segments = np.ascontiguousarray(segments, dtype=np.float32).reshape(-1, 2)
    scores = np.ascontiguousarray(scores, dtype=np.float32).reshape(-1)
    label_ids = np.ascontiguousarray(label_ids, dtype=np.int64).reshape(-1)
    if len(scores) == 0 or max_seg_num <= 0:
        return Kept(segments[:0], scores[:0], label_ids[:0], np.zeros(0, np.int64))

    if method == "soft":
        width = sigma if class_sigma is None else np.asarray(class_sigma)
        kept, kept_scores = _soft(segments, scores, label_ids, multiclass, width, min_score, max_seg_num, use_diou)
    elif method == "hard":
        kept, kept_scores = _hard(
            segments, scores, label_ids, multiclass, iou_threshold, min_score, max_seg_num, use_diou
        )
    else:
        kept, kept_scores = _best(scores, min_score, max_seg_num)
    voting = method != "none" and not multiclass and voting_thresh > 0
    kept_segments = _vote(segments[kept], segments, scores, np.float32(voting_thresh)) if voting else segments[kept]
    return Kept(kept_segments, kept_scores, label_ids[kept], kept)


def _without_indices(function: Callable[P, Kept]) -> Callable[P, Arrays]:
    """The same function with segments, scores and label ids for its result."""

    @functools.wraps(function)
    def arrays(*args: P.args, **kwargs: P.kwargs) -> Arrays:
        return function(*args, **kwargs)[:3]

    return arrays


batched_nms = _without_indices(nms)


def _best(scores: np.ndarray, min_score: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and scores of at most `count` candidates that score `min_score` or more, by falling score."""
    kept = np.argsort(-scores, kind="stable")[:count]
    kept = kept[scores[kept] >= np.float32(min_score)]
    return kept, scores[kept]


def _group(label_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates by class: order (N,), where each group begins and ends in it (K + 1,), label id of each group (K,)."""
    low, high = int(label_ids.min()), int(label_ids.max())
    # 16-bit keys make numpy sort by radix, in linear time
    keys = (label_ids - low).astype(np.uint16) if high - low < 2**16 else label_ids
    order = np.argsort(keys, kind="stable")
    in_order = label_ids[order]
    first = np.flatnonzero(np.diff(in_order, prepend=in_order[0] - 1))
    return order, np.append(first, len(label_ids)), in_order[first]


def _soft(
    segments: np.ndarray,
    scores: np.ndarray,
    label_ids: np.ndarray,
    multiclass: bool,
    width: float | np.ndarray,
    floor: float,
    max_seg_num: int,
    use_diou: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (M,) and new scores (M,) of Gaussian soft-NMS; `width`: one number, or one per label id."""
    order, offsets, groups = _group(label_ids if multiclass else np.zeros_like(label_ids))
    widths = width[groups] if isinstance(width, np.ndarray) else np.full(len(groups), width)
    return _soft_select(
        segments[order, 0],
        segments[order, 1],
        scores[order],
        order,
        offsets,
        widths.astype(np.float32),
        np.float32(floor),
        min(max_seg_num, len(scores)),
        use_diou,
    )


def _hard(
    segments: np.ndarray,
    scores: np.ndarray,
    label_ids: np.ndarray,
    multiclass: bool,
    iou_threshold: float,
    min_score: float,
    max_seg_num: int,
    use_diou: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (M,) that hard NMS keeps and their scores (M,), falling; exact ties by class, then by index."""
    groups = np.unique(label_ids, return_inverse=True)[1] if multiclass else np.zeros_like(label_ids)
    order = np.lexsort((groups, -scores))
    if min_score > 0:
        order = order[scores[order] > np.float32(min_score)]
    kept = _hard_select(
        segments[order, 0],
        segments[order, 1],
        order,
        groups[order],
        int(groups.max()) + 1,
        np.float32(iou_threshold),
        max_seg_num,
        use_diou,
    )
    return kept, scores[kept]


@compiled(inline="always")
def _overlap(start, end, length, other_start, other_end, other_length, use_diou):  # type: ignore[no-untyped-def]
    """Overlap of two segments (float32); lengths come with their offset. 0 where they do not touch."""
    inter = min(end, other_end) - max(start, other_start)
    if not inter > ZERO:
        return ZERO
    overlap = inter / (length + other_length - inter)
    if use_diou:
        shift = np.float32(0.5) * ((start + end) - (other_start + other_end))
        hull = max(end, other_end) - min(start, other_start) + LENGTH_OFFSET
        overlap = max(ZERO, overlap - (shift / hull) * (shift / hull))
    return overlap


@compiled
def _soft_select(starts, ends, scores, ids, offsets, widths, floor, max_kept, use_diou):  # type: ignore[no-untyped-def]
    """Gaussian soft-NMS of groups that lie one after another in the (N,) arrays, which are overwritten.

    Within a group the candidates still in the race lie at [first, stop). The best one is swapped to the front, and a
    candidate that falls below the floor is replaced by the last one: the order the published kernel visits them in.
    """
    num_groups = len(offsets) - 1
    lengths = ends - starts + LENGTH_OFFSET
    first = offsets[:-1].copy()
    stop = offsets[1:].copy()
    best = np.empty(num_groups, dtype=np.int64)
    for group in range(num_groups):
        best[group] = first[group] + np.argmax(scores[first[group] : stop[group]])

    kept = np.empty(max_kept, dtype=np.int64)
    kept_scores = np.empty(max_kept, dtype=np.float32)
    num_kept = 0
    while num_kept < max_kept:
        group = -1
        for other in range(num_groups):
            if first[other] < stop[other] and (group < 0 or scores[best[other]] > scores[best[group]]):
                group = other
        if group < 0:
            break
        front, top = first[group], best[group]
        start, end, length, score, index = starts[top], ends[top], lengths[top], scores[top], ids[top]
        starts[top], ends[top], lengths[top] = starts[front], ends[front], lengths[front]
        scores[top], ids[top] = scores[front], ids[front]
        kept[num_kept] = index
        kept_scores[num_kept] = score
        num_kept += 1
        first[group] = front + 1
        stop[group], best[group] = _decay(
            starts, ends, lengths, scores, ids, front + 1, stop[group], start, end, length,
            widths[group], floor, use_diou,
        )  # fmt: skip
    return kept[:num_kept], kept_scores[:num_kept]


@compiled
def _decay(starts, ends, lengths, scores, ids, position, stop, start, end, length, width, floor, use_diou):  # type: ignore[no-untyped-def]
    """Lower the scores at [position, stop) that overlap the segment; the new stop and where the best score is now."""
    best, best_score = position, np.float32(-np.inf)
    while position < stop:
        score = scores[position]
        overlap = _overlap(start, end, length, starts[position], ends[position], lengths[position], use_diou)
        if overlap > ZERO:
            score *= math.exp(-(overlap * overlap) / width)
            scores[position] = score
        if score < floor:
            stop -= 1
            starts[position], ends[position], lengths[position] = starts[stop], ends[stop], lengths[stop]
            scores[position], ids[position] = scores[stop], ids[stop]
            continue
        if score > best_score:
            best, best_score = position, score
        position += 1
    return stop, best


@compiled
def _hard_select(starts, ends, ids, groups, num_groups, threshold, max_kept, use_diou):  # type: ignore[no-untyped-def]
    """Greedy NMS of candidates (N,) in falling order: one stays if no kept one of its group overlaps it that much."""
    lengths = ends - starts + LENGTH_OFFSET
    last = np.full(num_groups, -1)  # last kept candidate of each group; `previous` chains to those before it
    previous = np.empty(len(ids), dtype=np.int64)
    kept = np.empty(min(max_kept, len(ids)), dtype=np.int64)
    num_kept = 0
    for position in range(len(ids)):
        if num_kept == len(kept):
            break
        group = groups[position]
        other = last[group]
        while other >= 0:
            overlap = _overlap(
                starts[other], ends[other], lengths[other], starts[position], ends[position], lengths[position],
                use_diou,
            )  # fmt: skip
            if overlap >= threshold:
                break
            other = previous[other]
        if other < 0:
            previous[position] = last[group]
            last[group] = position
            kept[num_kept] = ids[position]
            num_kept += 1
    return kept[:num_kept]


@compiled
def _vote(kept, segments, scores, threshold):  # type: ignore[no-untyped-def]
    """Mean of the candidates (N, 2) around each kept segment (M, 2), weighted by score times overlap.

    Lengths have no offset here. A kept segment that nothing overlaps, not even itself (it is empty), stays as it is.
    """
    voted = kept.copy()
    for i in range(len(kept)):
        start, end = kept[i, 0], kept[i, 1]
        total, start_sum, end_sum = 0.0, 0.0, 0.0
        for j in range(len(segments)):
            other_start, other_end = segments[j, 0], segments[j, 1]
            inter = min(end, other_end) - max(start, other_start)
            if not inter > ZERO:
                continue
            overlap = inter / ((end - start) + (other_end - other_start) - inter)
            if overlap >= threshold:
                weight = np.float64(scores[j]) * overlap
                total += weight
                start_sum += weight * other_start
                end_sum += weight * other_end
        if total > 0:
            voted[i, 0] = start_sum / total
            voted[i, 1] = end_sum / total
    return voted
