"""From candidates on the feature grid to detections: suppression, seconds, rules, operating point, the best of these.

The rules and the operating point come before `max_seg_num` cuts, so a recording gets as many detections as it may have,
however many of the best ones break a rule. Points are peaks already: nothing is suppressed, and `min_gap` keeps them
apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eventide.config import TestConfig
from eventide.config_labels import by_label_id, label_problems
from eventide.ops.nms import nms
from eventide.ops.problems import raise_problems
from eventide.ops.rules import Rules, allowed
from eventide.ops.timeline import grid_to_seconds
from eventide.ops.voting import vote_boundaries
from eventide.types import Candidates, Detections, EventideError, EventKind, Timeline

UNCERTAIN_VOTING = 0.5  # class_voting_thresh of models that know how sure they are of a boundary
GROWTH = 8  # how many times more candidates are kept where rules left too few


def check_settings(
    settings: TestConfig, labels: Sequence[str], operating_point: bool = False, source: str = "the configuration"
) -> None:
    """Find what would go wrong in every recording before the first; messages call the settings' owner `source`.

    Raises:
        EventideError: `settings` name a label that is not among `labels`, or there is no operating point.
    """
    if not settings.ext_score_file:  # these bring classes of their own
        raise_problems(source, label_problems(settings, labels))
    if operating_point and not settings.class_threshold:
        raise EventideError(
            f"{source} has no operating point, since test_cfg.class_threshold holds no thresholds; run `eventide "
            "calibrate` first, which chooses them on a validation split and stores them with the model"
        )


def postprocess(
    candidates: Candidates,
    timeline: Timeline,
    settings: TestConfig,
    labels: Sequence[str],
    kind: EventKind = "segments",
    operating_point: bool = False,
) -> Detections:
    """Candidates of one recording -> its detections, at most `max_seg_num`; of proposals that external scores give
    classes to (`ext_score_file`) those before fusion, with no rules applied.

    Raises:
        EventideError: `settings` name a label that is not among `labels`.
    """
    if kind == "points":
        found = to_detections(candidates, timeline, settings, labels, kind)
        return best_allowed(found, settings, operating_point, settings.max_seg_num, settings.min_score)
    count = settings.max_seg_num
    if settings.ext_score_file:
        return to_detections(suppress(candidates, settings, labels, count), timeline, settings, labels, kind)
    while True:
        left = suppress(candidates, settings, labels, count)
        found = to_detections(left, timeline, settings, labels, kind)
        best = best_allowed(found, settings, operating_point, settings.max_seg_num)
        # Fewer than asked for: there are no others. Scores fall: none of the others is better than the last of these.
        complete = len(best) == settings.max_seg_num or len(left) < count
        if complete or _all_fail(left.scores[-1], settings, labels, operating_point):
            return best
        count *= GROWTH


def suppress(candidates: Candidates, settings: TestConfig, labels: Sequence[str], most: int) -> Candidates:
    """Non-maximum suppression as `test_cfg` says; the best `most` of what is left, by falling score."""
    sigma = None
    if settings.class_sigma and settings.nms_method == "soft":
        sigma = np.full(_classes(labels, candidates.label_ids), settings.nms_sigma)
        for label_id, value in by_label_id(settings, "class_sigma", labels).items():
            sigma[label_id] = value
    kept = nms(
        candidates.segments,
        candidates.scores,
        candidates.label_ids,
        iou_threshold=settings.iou_threshold,
        min_score=settings.min_score,
        max_seg_num=most,
        method=settings.nms_method,
        multiclass=settings.multiclass_nms,
        sigma=settings.nms_sigma,
        voting_thresh=settings.voting_thresh,
        use_diou=settings.use_diou_nms,
        class_sigma=sigma,
    )
    left, segments = candidates.take(kept.indices), kept.segments
    if threshold := _class_voting(candidates, settings):
        segments = vote_boundaries(
            segments,
            kept.label_ids,
            candidates.segments,
            candidates.scores,
            candidates.label_ids,
            candidates.std,
            threshold,
        )
    # a voted boundary takes its quantiles along; what it is worth was not voted on
    moved = None if left.quantiles is None else left.quantiles + (segments - left.segments)[:, :, None]
    return Candidates(segments, kept.scores, kept.label_ids, left.std, moved)


def _class_voting(candidates: Candidates, settings: TestConfig) -> float:
    """The tIoU from which candidates vote on the boundaries of their class; 0: they do not."""
    if not settings.multiclass_nms or settings.nms_method == "none":
        return 0.0
    if settings.class_voting_thresh is None:
        return 0.0 if candidates.std is None else UNCERTAIN_VOTING
    return settings.class_voting_thresh


def to_detections(
    candidates: Candidates,
    timeline: Timeline,
    settings: TestConfig,
    labels: Sequence[str],
    kind: EventKind = "segments",
) -> Detections:
    """Everything in seconds. Boundaries and their quantiles are cut to [0, duration], to [0, inf) where the duration is
    not known; the standard deviation is that before the cut. `std_scale` stretches it, and the distance of quantiles
    from their boundary.
    """
    scale = settings.std_scale or 1.0
    segments = candidates.segments.astype(np.float32)
    std = quantiles = None
    if candidates.std is not None:
        std = (candidates.std * (timeline.feat_stride / timeline.fps * scale)).astype(np.float32)
    if candidates.quantiles is not None:
        around = segments[:, :, None]
        quantiles = _seconds(around + (candidates.quantiles - around) * np.float32(scale), timeline)
    return Detections(
        _seconds(segments, timeline),
        candidates.scores,
        candidates.label_ids,
        list(labels),
        kind,
        std,
        quantiles,
        () if quantiles is None else tuple(settings.quantiles or ()),
    )


def best_allowed(
    found: Detections, settings: TestConfig, operating_point: bool, most: int, lowest_score: float = -np.inf
) -> Detections:
    """The best `most` detections that obey the rules, by falling score.

    At the operating point these score what `class_threshold` says for their label or more, and `min_score` or more
    where it says nothing; elsewhere `lowest_score` or more.

    Raises:
        EventideError: `settings` name a label that is not among the detections' labels.
    """
    labels = found.labels
    rules = Rules.of_all(
        _classes(labels, found.label_ids),
        lowest_score=settings.min_score if operating_point else lowest_score,
        min_gap=settings.min_gap if isinstance(settings.min_gap, float) else -np.inf,
        max_overlap=settings.max_overlap if isinstance(settings.max_overlap, float) else 1.0,
    )
    if isinstance(settings.duration_limits, tuple):
        rules.shortest[:], rules.longest[:] = settings.duration_limits
    for label_id, (shortest, longest) in by_label_id(settings, "duration_limits", labels).items():
        rules.shortest[label_id], rules.longest[label_id] = shortest, longest
    for key, values in (("min_gap", rules.min_gap), ("max_overlap", rules.max_overlap)):
        for label_id, value in by_label_id(settings, key, labels).items():
            values[label_id] = value
    if operating_point:
        for label_id, value in by_label_id(settings, "class_threshold", labels).items():
            rules.lowest_score[label_id] = value
    return found.take(allowed(found.segments, found.scores, found.label_ids, rules, most))


def _all_fail(score: np.float32, settings: TestConfig, labels: Sequence[str], operating_point: bool) -> bool:
    """Whether no detection that scores this could reach the operating point, whatever its label."""
    thresholds = settings.class_threshold or {}
    others = [] if set(labels) <= set(thresholds) else [settings.min_score]
    return operating_point and bool(score < np.float32(min([*thresholds.values(), *others])))


def _classes(labels: Sequence[str], label_ids: np.ndarray) -> int:
    """One more than the largest label id: some classes may have no name."""
    return max(len(labels), int(label_ids.max(initial=-1)) + 1)


def _seconds(grid: np.ndarray, timeline: Timeline) -> np.ndarray:
    seconds = grid_to_seconds(grid, float(timeline.fps), float(timeline.feat_stride), float(timeline.num_frames))
    return np.clip(seconds, 0.0, timeline.duration).astype(np.float32)
