"""One pass of a model over a split, and its score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eventide.data.dataset import EventDataset
from eventide.data.loader import evaluation_batches
from eventide.engine.external_scores import ExternalScores
from eventide.engine.inference import Inference
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.segments import SegmentMetrics, evaluate_segments
from eventide.types import Detections


def detect_dataset(
    inference: Inference, dataset: EventDataset, num_workers: int, on_progress: Callable[[int, int], object]
) -> dict[str, Detections]:
    """Detections of every recording, in the order of the data set.

    `on_progress(done, total)` is called after every batch; what it raises ends the pass.
    """
    found: dict[str, Detections] = {}
    scores = ExternalScores.of(inference.settings)
    for batch in evaluation_batches(dataset, inference.settings.batch_size, num_workers):
        for recording_id, detections in zip(batch.ids, inference.detect(batch), strict=True):
            found[recording_id] = scores.fuse(recording_id, detections) if scores else detections
        on_progress(len(found), len(dataset))
    return {recording.id: found[recording.id] for recording in dataset.recordings}


def score(
    dataset: EventDataset, detections: Mapping[str, Detections], thresholds: Sequence[float], *, by_class: bool = True
) -> SegmentMetrics:
    """Segment mAP of detections against the annotations of a data set; all classes count as one without `by_class`."""
    recordings = dataset.recordings
    if not by_class:
        recordings = [replace(recording, label_ids=np.zeros_like(recording.label_ids)) for recording in recordings]
    truth = GroundTruth.from_recordings(recordings, dataset.labels)
    return evaluate_segments(truth, Predictions.from_detections(detections), thresholds)


def table(metrics: SegmentMetrics) -> list[str]:
    """The mAP at each threshold and their average, as lines of text."""
    head = [f"{threshold:.2f}" for threshold in metrics.tiou_thresholds] + ["average"]
    values = [f"{100 * value:.2f}" for value in [*metrics.mAP, metrics.average_mAP]]
    widths = [max(len(a), len(b)) for a, b in zip(head, values, strict=True)]
    return [
        f"{name:9}" + "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for name, cells in (("tIoU", head), ("mAP (%)", values))
    ]
