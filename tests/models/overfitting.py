"""Overfitting one recording, as the tests of learning do: whether targets, losses, decoding and scoring agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eventide.config import Config
from eventide.engine.postprocess import postprocess
from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.points import evaluate_points
from eventide.evaluation.segments import evaluate_segments
from eventide.models import Architecture, build
from eventide.types import Detections, Recording, Timeline

from .making import CHANNELS, CLASSES

LABELS = ["first", "second", "third"]


@dataclass(frozen=True)
class Lesson:
    """One recording of `length` vectors, one a second, whose first vector is second 0."""

    length: int
    events: tuple[tuple[float, float, int], ...]  # start, end, label id; where points are learnt their centres

    def recording(self, config: Config) -> Recording:
        """Its annotations."""
        segments = np.array([event[:2] for event in self.events], dtype=np.float64)
        points = config.dataset.events == "points"
        if points:
            segments = segments.mean(axis=1, keepdims=True).repeat(2, axis=1)
        label_ids = np.array([event[2] for event in self.events], dtype=np.int64)
        return Recording(
            "one", "training", 1.0, float(self.length), segments, label_ids, np.full(len(segments), points)
        )

    @property
    def longest(self) -> float:
        """Length of the longest event."""
        return max(end - start for start, end, _ in self.events)


def learn(config: Config, lesson: Lesson, *, steps: int = 300, rate: float = 2e-3) -> tuple[Architecture, Detections]:
    """A model of a resolved `config` after `steps` on the lesson alone, and what it detects there, with the default
    post-processing.
    """
    torch.manual_seed(0)
    architecture = build(config)
    architecture.set_longest_event(lesson.longest)
    detector, criterion = architecture.detector.train(), architecture.criterion.train()
    criterion.loss_normalizer.fill_(10.0)
    features = torch.randn(1, CHANNELS, lesson.length)
    recording = lesson.recording(config)
    segments = torch.from_numpy(recording.segments).float().unsqueeze(0)
    label_ids = torch.from_numpy(recording.label_ids).unsqueeze(0)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        criterion(detector(features), segments, label_ids)["final_loss"].backward()
        optimizer.step()
        schedule.step()
    detector.eval()
    with torch.no_grad():
        found = architecture.decoder(detector(features))[0]
    timeline = Timeline(fps=1.0, feat_stride=1.0, num_frames=0.0, duration=float(lesson.length))
    kind = config.dataset.events or "segments"
    return architecture, postprocess(found, timeline, config.test_cfg, LABELS[:CLASSES], kind)


def average_precision(config: Config, lesson: Lesson, found: Detections) -> float:
    """Average mAP of detections of the lesson: tIoU 0.5 to 0.9, of points at 0.25, 0.5 and 1 s."""
    kind = config.dataset.events or "segments"
    truth = GroundTruth.from_recordings([lesson.recording(config)], LABELS, kind)
    assert truth.num_dropped == truth.num_other_kind == 0
    predictions = Predictions.from_detections({"one": found})
    if kind == "points":
        return evaluate_points(truth, predictions, [0.25, 0.5, 1.0]).average_mAP
    return evaluate_segments(truth, predictions, [0.5, 0.6, 0.7, 0.8, 0.9]).average_mAP


def worst_boundary(lesson: Lesson, config: Config, found: Detections) -> float:
    """Seconds by which the worst boundary (or point) of the best detections misses: as many as there are events."""
    truth = lesson.recording(config)
    best = found.take(np.arange(min(len(truth.segments), len(found))))
    assert sorted(best.label_ids.tolist()) == sorted(truth.label_ids.tolist())
    order = np.lexsort((best.segments[:, 0], best.label_ids))
    wanted = truth.segments[np.lexsort((truth.segments[:, 0], truth.label_ids))]
    return float(np.abs(best.segments[order] - wanted).max())
