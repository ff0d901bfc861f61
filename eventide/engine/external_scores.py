"""Class scores of whole recordings from another model, fused with class-free proposals (`test_cfg.ext_score_file`)."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eventide.config import TestConfig
from eventide.ops.fusion import fuse_external_scores
from eventide.types import Detections, EventideError, UsageError


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
        return cls(path, read_scores(path), settings.ext_score_topk, settings.max_seg_num)

    def fuse(self, recording_id: str, detections: Detections) -> Detections:
        """Detections with the best external classes of their recording.

        Raises:
            EventideError: the file has no scores for this recording.
        """
        if recording_id not in self.scores:
            raise EventideError(
                f"{self.path}: no class scores for recording {recording_id!r} (test_cfg.ext_score_file)"
            )
        segments, scores, label_ids = fuse_external_scores(
            detections.segments, detections.scores, self.scores[recording_id], self.topk, self.max_seg_num
        )
        # labels of the model's own classes would name the wrong ones
        labels = detections.labels if len(detections.labels) >= len(self.scores[recording_id]) else []
        return Detections(segments, scores, label_ids, labels)


def read_scores(path: Path) -> dict[str, np.ndarray]:
    """Class scores by recording id, from `.npz` (an array per id) or `.json` (`{id: [...]}`, maybe under `results`).

    Raises:
        UsageError: there is no such file.
        EventideError: it is not of this form.
    """
    if not path.is_file():
        raise UsageError(f"test_cfg.ext_score_file: there is no file {path}")
    form = f"{path}: class scores are an array per recording id in .npz, or {{id: [scores]}} in .json"
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                content: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        else:
            content = json.loads(path.read_text(encoding="utf-8"))
            content = content.get("results", content) if isinstance(content, dict) else {}
        scores = {name: np.asarray(values, dtype=np.float64).reshape(-1) for name, values in content.items()}
    except (ValueError, TypeError, OSError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise EventideError(f"{form}; this file cannot be read: {error}") from None
    wrong = [name for name, values in scores.items() if len(values) == 0 or not np.isfinite(values).all()]
    wrong += [name for name, values in scores.items() if name not in wrong and (values < 0).any()]
    if not scores or wrong:
        raise EventideError(f"{form}, finite and not negative; look at {wrong[0] if wrong else 'the empty file'}")
    return scores
