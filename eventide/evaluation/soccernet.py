"""The average-mAP of SoccerNet's action spotting, with the numbers of its own evaluator (package `SoccerNet`).

Its rules differ from point mAP: times are frames of half a second, of which each holds one event of a class (of
detections the last in the file); an event takes, in order of time, the best-scored free detection within half the
window on either side; precision and recall are read at 200 scores from 0 to 1 and the precision is averaged at 11
recalls; the average over windows is the area under the line through their mAP. A recording is one half of a game, and
what lies beyond two hours is counted in its last frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventide.evaluation.class_metrics import ClassMetrics
from eventide.evaluation.events import Events, GroundTruth, Predictions, count_events, match_classes
from eventide.evaluation.points import times_of
from eventide.ops.compiled import compiled

FRAMES_PER_SECOND = 2
NUM_FRAMES = 2 * 3600 * FRAMES_PER_SECOND
SCORES = np.linspace(0, 1, 200)
RECALLS = np.arange(11) / 10


@dataclass(frozen=True, kw_only=True)
class SoccerNetMetrics(ClassMetrics):
    """K windows, C classes of the ground truth; shares between 0 and 1."""

    windows: np.ndarray  # (K,) seconds, from half of it before an event to half of it after

    @property
    def average_mAP(self) -> float:  # noqa: N802
        """The average-mAP: area under `mAP` over the windows."""
        return float(_area(self.mAP))

    @property
    def average_AP(self) -> np.ndarray:  # noqa: N802
        """(C,) the same of each class."""
        return _area(self.per_class_AP)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; rows are windows, columns are `classes`."""
        return {
            "windows": self.windows.tolist(),
            "mAP": self.mAP.tolist(),
            "average_mAP": self.average_mAP,
            "classes": self.classes,
            "label_ids": self.label_ids,
            "per_class_AP": self.per_class_AP.tolist(),
            "average_AP": self.average_AP.tolist(),
            **self.counted(),
        }


def _area(values: np.ndarray) -> np.ndarray:
    """Mean over windows (K, ...) at even distances, in straight lines from one to the next; the value of one alone."""
    between = (values[1:] + values[:-1]) / 2
    area: np.ndarray = between.mean(axis=0) if len(between) else values[0]
    return area


def soccernet_average_map(
    ground_truth: GroundTruth, predictions: Predictions, windows: Sequence[float] | np.ndarray
) -> SoccerNetMetrics:
    """Score detected points as SoccerNet does; `windows` are seconds at even distances (tight: 1 to 5, loose: 5 to 60).

    The classes are those of the ground truth. Detections of recordings that it does not list are false positives, those
    of other classes are only counted (`counts`). No ground truth or no predictions give zeros, never NaN.

    Raises:
        ValueError: no windows, one that is not above 0, or events that are no points.
        EventideError: the two sides name their classes in ways that cannot be compared.
    """
    widths = np.asarray(windows, dtype=np.float64).reshape(-1)
    if len(widths) == 0 or not ((widths > 0) & np.isfinite(widths)).all():
        raise ValueError("windows are finite and above 0, and at least one is needed")
    classes = match_classes(ground_truth, predictions)
    num_classes = len(classes.names)
    # one number for class, recording and frame; recordings outside the ground truth come after those in it
    position = {name: i for i, name in enumerate(dict.fromkeys([*ground_truth.recordings, *predictions.recordings]))}
    truth = np.unique(_places(ground_truth, classes.ground_truth, position))
    places = _places(predictions, classes.predictions, position)
    last_first = np.arange(len(places))[::-1]
    found, rows = np.unique(places[last_first], return_index=True)
    scores = predictions.scores[last_first][rows]
    counting = (found >= 0) & (scores >= 0)
    found, scores = found[counting], scores[counting]
    per_class = len(position) * NUM_FRAMES
    per_class_AP = np.zeros((len(widths), num_classes))  # noqa: N806
    for k, width in enumerate(widths):
        right = _match(truth, found, scores, width * FRAMES_PER_SECOND / 2, NUM_FRAMES)
        for c in range(num_classes):
            own = slice(*np.searchsorted(found, [c * per_class, (c + 1) * per_class]))
            events = np.diff(np.searchsorted(truth, [c * per_class, (c + 1) * per_class]))
            per_class_AP[k, c] = _average_precision(scores[own], right[own], int(events[0]))
    return SoccerNetMetrics(
        windows=widths,
        classes=classes.names,
        label_ids=classes.label_ids,
        per_class_AP=per_class_AP,
        num_ground_truth=np.bincount(classes.ground_truth, minlength=num_classes),
        num_predictions=np.bincount(classes.predictions[classes.predictions >= 0], minlength=num_classes),
        counts=count_events(ground_truth, predictions, classes),
        by_label=classes.by_label,
    )


def _places(events: Events, class_of: np.ndarray, position: dict[str, int]) -> np.ndarray:
    """(class x recordings + recording) x frames + frame of every event, -1 without a class."""
    recording = np.array([position[name] for name in events.recordings], np.int64)[events.recording_index]
    milliseconds = np.rint(np.clip(times_of(events), 0, NUM_FRAMES) * 1000)
    frames = np.minimum(np.floor(FRAMES_PER_SECOND * (milliseconds / 1000)), NUM_FRAMES - 1).astype(np.int64)
    return np.where(class_of < 0, -1, (class_of * len(position) + recording) * NUM_FRAMES + frames)


def _average_precision(scores: np.ndarray, right: np.ndarray, num_events: int) -> float:
    """Mean over 11 recalls of the best precision at that recall or more, read at 200 scores."""
    order = np.argsort(scores, kind="stable")
    first = np.searchsorted(scores[order], SCORES)
    num_right = np.append(np.cumsum(right[order][::-1])[::-1], 0)[first]
    num_found = len(scores) - first
    precision = num_right / np.maximum(num_found, 1)
    recall = num_right / max(num_events, 1)
    best = np.where(recall[None, :] >= RECALLS[:, None], precision[None, :], 0.0).max(axis=1)
    return float(best.sum() / len(RECALLS))


@compiled
def _match(truth, found, scores, reach, num_frames):  # type: ignore[no-untyped-def]
    """Whether each detection (M,) is taken by an event (G,); both rise, `reach` is in frames.

    An event takes the best free detection, of equals the earlier; `num_frames` places are one recording and class.
    """
    right = np.zeros(len(found), dtype=np.bool_)
    for g in range(len(truth)):
        cell = truth[g] // num_frames
        best = -1
        for i in range(np.searchsorted(found, truth[g] - reach), len(found)):
            if found[i] - truth[g] > reach:
                break
            if found[i] // num_frames == cell and not right[i] and (best < 0 or scores[i] > scores[best]):
                best = i
        if best >= 0:
            right[best] = True
    return right
