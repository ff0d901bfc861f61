"""Soft-NMS beside the published C++: `python -m benchmarks.nms [--published PATH] [--runs N] [--json FILE]`.

12,000 candidates in 20 classes: around each of 300 events, segments with jittered boundaries and falling scores, the
rest anywhere. Kept are the best 200, as in the published THUMOS14 settings, then all, which leaves no room for stopping
early.
"""

from __future__ import annotations

import functools

import numpy as np

from benchmarks.common import Comparison, Work, arguments, compare, load_published, published_module, report

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def candidates(number: int, classes: int, events: int, seed: int = 0) -> Arrays:
    """Candidates of one recording on a grid of 2304 steps: segments (N, 2), scores (N,), label ids (N,)."""
    random = np.random.default_rng(seed)
    centres, lengths = random.uniform(0, 2304, events), random.gamma(2.0, 10.0, events) + 2.0
    event_class = random.integers(0, classes, events)
    near = random.integers(0, events, number)
    loose = random.random(number) < 0.3
    centre = np.where(
        loose, random.uniform(0, 2304, number), centres[near] + random.normal(0, 0.2, number) * lengths[near]
    )
    length = np.where(loose, random.gamma(2.0, 10.0, number), lengths[near] * random.lognormal(0, 0.3, number)) + 0.1
    label_ids = np.where(random.random(number) < 0.5, event_class[near], random.integers(0, classes, number))
    scores = random.beta(0.5, 4.0, number) * np.where(loose, 0.3, 1.0) + 0.001
    segments = np.stack([centre - length / 2, centre + length / 2], axis=1)
    return segments.astype(np.float32), scores.astype(np.float32), label_ids.astype(np.int64)


def ours(data: Arrays, most: int, multiclass: bool, soft: bool, voting: float) -> Arrays:
    from eventide.ops.nms import batched_nms

    return batched_nms(
        *data, iou_threshold=0.1, min_score=0.001, max_seg_num=most, method="soft" if soft else "hard",
        multiclass=multiclass, sigma=0.5, voting_thresh=voting,
    )  # fmt: skip


def theirs(data: Arrays, most: int, multiclass: bool, soft: bool, voting: float) -> Arrays:
    import torch

    found = published_module("libs.utils").batched_nms(
        *(torch.from_numpy(array) for array in data), 0.1, 0.001, most, use_soft_nms=soft, multiclass=multiclass,
        sigma=0.5, voting_thresh=voting,
    )  # fmt: skip
    return found[0].numpy(), found[1].numpy(), found[2].numpy()


def largest_difference(mine: Arrays, other: Arrays) -> float:
    """Largest difference of segments and scores, detections paired by sorting; infinite if labels differ."""
    if len(mine[1]) != len(other[1]):
        return float("inf")
    one, two = (np.lexsort((a[0][:, 0], a[2], -a[1])) for a in (mine, other))
    if (mine[2][one] != other[2][two]).any():
        return float("inf")
    return max(float(np.abs(mine[i][one] - other[i][two]).max(initial=0.0)) for i in (0, 1))


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__, runs=15).parse_args()
    if options.published:
        load_published(options.published)
    data = candidates(12_000, 20, 300)
    one_class = tuple(array[:2000] for array in data)
    cases: list[tuple[str, Arrays, tuple[int, bool, bool, float], float | None]] = [
        ("soft, 12,000 in 20 classes, best 200", data, (200, True, True, 0.0), 1.0),
        ("soft, 12,000 in 20 classes, all", data, (12_000, True, True, 0.0), 1.0),
        ("soft, 12,000 across classes, best 200, voting", data, (200, False, True, 0.7), None),
        ("soft, 2,000 across classes, best 200, voting", one_class, (200, False, True, 0.7), None),  # type: ignore[list-item]
        ("hard, 12,000 in 20 classes, best 200", data, (200, True, False, 0.0), None),
    ]
    comparisons: list[Comparison] = []
    differences: dict[str, float] = {}
    for label, inputs, settings, target in cases:
        mine: Work = functools.partial(ours, inputs, *settings)
        other: Work | None = functools.partial(theirs, inputs, *settings) if options.published else None
        comparisons.append(compare(label, mine, other, options.runs, target))
        if options.published:
            differences[label] = largest_difference(ours(inputs, *settings), theirs(inputs, *settings))
    report(comparisons, options.json, **{"largest difference of segments (grid) and scores": differences})


if __name__ == "__main__":
    main()
