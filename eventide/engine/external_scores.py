"""Class scores of whole recordings from another model, fused with class-free proposals (`test_cfg.ext_score_file`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eventide.config import TestConfig
from eventide.evaluation.external_scores import read_external_scores, scores_of
from eventide.ops.fusion import fuse_external_scores
from eventide.types import Detections


@dataclass(frozen=True)
class ExternalScores:
    """Class scores (classes,) per recording id, and how many classes and segments to take."""

    path: Path
    scores: dict[str, np.ndarray]
    topk: int
    max_seg_num: int

    @classmethod
    def of(cls, settings: TestConfig) -> ExternalScores | None:
        """The scores that `test_cfg` names; None where it names none."""
        if not settings.ext_score_file:
            return None
        path = Path(settings.ext_score_file)
        return cls(path, read_external_scores(path), settings.ext_score_topk, settings.max_seg_num)

    def fuse(self, recording_id: str, detections: Detections) -> Detections:
        """Detections with the best external classes of their recording.

        Raises:
            EventideError: the file has no scores for this recording.
        """
        class_scores = scores_of(self.scores, recording_id, self.path)
        segments, scores, label_ids = fuse_external_scores(
            detections.segments, detections.scores, class_scores, self.topk, self.max_seg_num
        )
        # labels of the model's own classes would name the wrong ones
        labels = detections.labels if len(detections.labels) >= len(class_scores) else []
        return Detections(segments, scores, label_ids, labels)
