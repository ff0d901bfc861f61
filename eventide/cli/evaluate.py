"""`eventide eval`: score a results file against annotations, from the two files alone."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from eventide.types import EventideError

if TYPE_CHECKING:
    import numpy as np


def evaluate(
    *,
    predictions: Path,
    annotations: Path,
    split: list[str],
    protocol: Literal["thumos", "activitynet", "epic", "ego4d"] | None = None,
    tiou: list[float] | None = None,
    json: Path | None = None,
    per_class: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Score a results file against annotations: mAP at tIoU thresholds, Recall@1x and @5x.

    Annotated segments shorter than 1 ms, and repeats of one within 1 ms, do not count. Detections in recordings
    outside the split are false positives. Classes are matched by label where both files have labels, else by id.

    Parameters
    ----------
    predictions
        Results file, as `eventide predict` writes it.
    annotations
        Annotation file, ActivityNet-style JSON.
    split
        Subset or subsets to score, upper or lower case.
    protocol
        Published set of thresholds: thumos 0.3 to 0.7 by 0.1, activitynet 0.5 to 0.95 by 0.05, epic and ego4d 0.1 to
        0.5 by 0.1.
    tiou
        Thresholds of your own, instead of a protocol.
    json
        Also write all numbers to this file.
    per_class
        Print the average precision of every class, too.
    """
    from eventide.evaluation.protocols import thresholds_of
    from eventide.ops.files import write_text

    metrics = score_files(predictions, annotations, split, thresholds_of(protocol, tiou))
    print_metrics(metrics, per_class)
    if json is not None:
        origin = {"predictions": str(predictions), "annotations": str(annotations), "split": split}
        write_text(json, json_format.dumps({**origin, "protocol": protocol, **metrics}, indent=2) + "\n")
        print(f"Written to {json}")


def score_files(predictions: Path, annotations: Path, split: list[str], thresholds: np.ndarray) -> dict[str, Any]:
    """All numbers of `eventide eval`.

    Raises:
        EventideError: a file is not as it should be, or the split has no events.
    """
    from eventide.data.annotations import load_annotations
    from eventide.data.annotations import split as recordings_of
    from eventide.evaluation.events import GroundTruth
    from eventide.evaluation.results import read_results
    from eventide.evaluation.segments import evaluate_segments

    found = read_results(predictions)
    annotated = load_annotations(annotations)
    truth = GroundTruth.from_recordings(recordings_of(annotated, split), annotated.labels)
    if len(truth) == 0:
        raise EventideError(
            f"{annotations}: the {len(truth.recordings)} recording(s) of split {' and '.join(map(repr, split))} "
            "have no events: there is nothing to score against"
        )
    return evaluate_segments(truth, found, thresholds).to_dict()


def print_metrics(metrics: dict[str, Any], per_class: bool) -> None:
    """Print the tables and what was counted."""
    from rich.console import Console

    from eventide.report.metric_tables import class_table, metric_table

    # a pipe has no width of its own: nothing is folded there
    console = Console() if sys.stdout.isatty() else Console(width=250)
    console.print(metric_table(metrics))
    if per_class:
        console.print(class_table(metrics))
    for line in summary(metrics):
        print(line)


def summary(metrics: dict[str, Any]) -> list[str]:
    """What was counted, and what a user should wonder about, one line each."""
    counts = metrics["counts"]
    lines = [
        f"{counts['ground_truth']} events of {len(metrics['classes'])} classes in {counts['recordings']} recordings "
        f"({counts['ground_truth_dropped']} too short or repeated), {counts['predictions']} predictions, "
        f"classes matched by {metrics['classes_matched_by']}"
    ]
    if counts["predictions"] == 0:
        lines.append("note: the results file holds no predictions, so every number is 0")
    if counts["predictions_outside_split"]:
        lines.append(
            f"note: {counts['predictions_outside_split']} predictions are for recordings outside the split "
            "and count as false positives"
        )
    if counts["predictions_of_unknown_class"]:
        lines.append(
            f"note: {counts['predictions_of_unknown_class']} predictions are of classes without an event in the split "
            "and count nowhere"
        )
    if counts["predictions"] and counts["recordings_with_predictions"] == 0:
        lines.append("note: no recording of the split is in the results file; are these the predictions for it?")
    return lines
