"""From candidates on the feature grid to detections in seconds: suppression, then conversion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eventide.config import TestConfig
from eventide.ops.nms import batched_nms
from eventide.ops.timeline import grid_to_seconds
from eventide.types import Candidates, Detections, EventKind, Timeline


def suppress(candidates: Candidates, settings: TestConfig) -> Candidates:
    """Non-maximum suppression as `test_cfg` says; what is left is sorted by falling score."""
    segments, scores, label_ids = batched_nms(
        candidates.segments,
        candidates.scores,
        candidates.label_ids,
        iou_threshold=settings.iou_threshold,
        min_score=settings.min_score,
        max_seg_num=settings.max_seg_num,
        method=settings.nms_method,
        multiclass=settings.multiclass_nms,
        sigma=settings.nms_sigma,
        voting_thresh=settings.voting_thresh,
    )
    return Candidates(segments, scores, label_ids)


def to_detections(candidates: Candidates, timeline: Timeline, labels: Sequence[str]) -> Detections:
    """Segments in seconds, cut to [0, duration]; where the duration is not known, to [0, inf)."""
    seconds = grid_to_seconds(
        candidates.segments.astype(np.float32),
        float(timeline.fps),
        float(timeline.feat_stride),
        float(timeline.num_frames),
    )
    seconds = np.clip(seconds, 0.0, timeline.duration).astype(np.float32)
    return Detections(seconds, candidates.scores, candidates.label_ids, list(labels))


def postprocess(
    candidates: Candidates,
    timeline: Timeline,
    settings: TestConfig,
    labels: Sequence[str],
    kind: EventKind = "segments",
) -> Detections:
    """Candidates of one recording -> its detections."""
    return to_detections(suppress(candidates, settings), timeline, labels)
