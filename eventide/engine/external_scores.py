"""Class scores of whole recordings from another model, fused with class-free proposals (`test_cfg.ext_score_file`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eventide.config import TestConfig
from eventide.engine.postprocess import best_allowed
from eventide.evaluation.external_scores import read_external_scores, scores_of
from eventide.ops.fusion import fuse_external_scores
from eventide.types import Detections


@dataclass(frozen=True)
class ExternalScores:
    """Class scores (classes,) per recording id, and what becomes of them."""

    path: Path
    scores: dict[str, np.ndarray]
    settings: TestConfig
    operating_point: bool = False

    @classmethod
    def of(cls, settings: TestConfig, operating_point: bool = False) -> ExternalScores | None:
        """The scores that `test_cfg` names; None where it names none."""
        if not settings.ext_score_file:
            return None
        path = Path(settings.ext_score_file)
        return cls(path, read_external_scores(path), settings, operating_point)

    def fuse(self, recording_id: str, detections: Detections) -> Detections:
        """Detections with the best external classes of their recording; the rules act on these.

        Raises:
            EventideError: the file has no scores for this recording, or `test_cfg` names a label that there is not.
        """
        class_scores = scores_of(self.scores, recording_id, self.path)
        rows, scores, label_ids = fuse_external_scores(
            detections.scores, class_scores, self.settings.ext_score_topk, self.settings.max_seg_num
        )
        # labels of the model's own classes would name the wrong ones
        labels = detections.labels if len(detections.labels) >= len(class_scores) else []
        fused = replace(detections.take(rows), scores=scores, label_ids=label_ids, labels=labels)
        return best_allowed(fused, self.settings, self.operating_point, len(fused))
