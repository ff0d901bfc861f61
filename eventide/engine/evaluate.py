"""One pass of a model over a split, and its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from eventide.config import Config
from eventide.data.dataset import EventDataset
from eventide.data.loader import evaluation_batches
from eventide.data.steps import ALONE, Share
from eventide.engine.external_scores import ExternalScores
from eventide.engine.inference import Inference
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.points import PointMetrics, evaluate_points
from eventide.evaluation.segments import SegmentMetrics, evaluate_segments
from eventide.types import Detections, EventKind


def detect_dataset(
    inference: Inference,
    dataset: EventDataset,
    num_workers: int,
    on_progress: Callable[[int, int], object],
    share: Share = ALONE,
) -> dict[str, Detections]:
    """Detections of every recording, in the order of the data set; of one process's `share` where there are several.

    `on_progress(done, total)` is called after every batch; what it raises ends the pass.
    """
    found: dict[str, Detections] = {}
    scores = ExternalScores.of(inference.settings, inference.operating_point)
    for batch in evaluation_batches(dataset, inference.settings.batch_size, num_workers, share):
        for recording_id, detections in zip(batch.ids, inference.detect(batch), strict=True):
            found[recording_id] = scores.fuse(recording_id, detections) if scores else detections
        on_progress(min(len(dataset), len(found) * share.size), len(dataset))
    return in_order(dataset, found)


def in_order(dataset: EventDataset, found: Mapping[str, Detections]) -> dict[str, Detections]:
    """Those that were found, in the order of the data set."""
    return {recording.id: found[recording.id] for recording in dataset.recordings if recording.id in found}


def score(
    dataset: EventDataset, detections: Mapping[str, Detections], config: Config, *, by_class: bool = True
) -> SegmentMetrics | PointMetrics:
    """mAP of detections against the annotations of a data set: at the tIoU thresholds of a resolved `config` for
    segments, at its tolerances for points. All classes count as one without `by_class`.
    """
    recordings = dataset.recordings
    if not by_class:
        recordings = [replace(recording, label_ids=np.zeros_like(recording.label_ids)) for recording in recordings]
    kind: EventKind = "points" if dataset.points else "segments"
    truth = GroundTruth.from_recordings(recordings, dataset.labels, kind, dataset.settings.point_position)
    found = Predictions.from_detections(detections)
    if kind == "points":
        return evaluate_points(truth, found, config.tolerances)
    return evaluate_segments(truth, found, config.tiou_thresholds)


def named_values(metrics: SegmentMetrics | PointMetrics) -> dict[str, float]:
    """The mAP at each threshold, and the average, by name: mAP@0.5 (tIoU), mAP@0.5s (tolerance), average_mAP."""
    if isinstance(metrics, PointMetrics):
        names = [f"mAP@{tolerance:g}s" for tolerance in metrics.tolerances]
    else:
        names = [f"mAP@{threshold:g}" for threshold in metrics.tiou_thresholds]
    return {**dict(zip(names, metrics.mAP.tolist(), strict=True)), "average_mAP": metrics.average_mAP}


def table(metrics: SegmentMetrics | PointMetrics) -> list[str]:
    """The mAP at each threshold and their average, as lines of text."""
    if isinstance(metrics, PointMetrics):
        name, head = "tolerance", [f"{tolerance:g} s" for tolerance in metrics.tolerances]
    else:
        name, head = "tIoU", [f"{threshold:.2f}" for threshold in metrics.tiou_thresholds]
    head = [*head, "average"]
    values = [f"{100 * value:.2f}" for value in [*metrics.mAP, metrics.average_mAP]]
    widths = [max(len(a), len(b)) for a, b in zip(head, values, strict=True)]
    return [
        f"{title.ljust(max(len(name), 7))}  "
        + "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for title, cells in ((name, head), ("mAP (%)", values))
    ]
