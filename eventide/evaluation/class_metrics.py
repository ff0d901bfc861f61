"""What the metrics of segments, of points and SoccerNet's share: AP per class, its means, and what was counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eventide.evaluation.matching import mean_over_classes


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """K limits (thresholds, tolerances or windows), C classes of the ground truth; shares between 0 and 1."""

    classes: list[str]  # C names
    label_ids: list[int] | None  # C
    per_class_AP: np.ndarray  # (K, C)  # noqa: N815
    num_ground_truth: np.ndarray  # (C,) events per class
    num_predictions: np.ndarray  # (C,) predictions per class
    counts: dict[str, int]  # recordings, events, dropped events, predictions, those outside the split or its classes
    by_label: bool  # classes were matched by label, else by id

    @property
    def mAP(self) -> np.ndarray:  # noqa: N802
        """(K,) mean AP over the classes; 0 where there is no ground truth."""
        return mean_over_classes(self.per_class_AP)

    @property
    def average_mAP(self) -> float:  # noqa: N802
        """Mean of `mAP` over the limits."""
        return float(self.mAP.mean())

    def counted(self) -> dict[str, Any]:
        """What was counted, as the last keys of the JSON."""
        return {
            "num_ground_truth": self.num_ground_truth.tolist(),
            "num_predictions": self.num_predictions.tolist(),
            "counts": self.counts,
            "classes_matched_by": "label" if self.by_label else "label_id",
        }
