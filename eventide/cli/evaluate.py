"""`eventide eval`: score a results file against annotations, from the two files alone."""

from __future__ import annotations

import json as json_format
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from eventide.types import EventideError, Recording, UsageError

if TYPE_CHECKING:
    from eventide.evaluation.events import GroundTruth, PointPosition, Predictions
    from eventide.evaluation.protocols import Rule


def _frames(_: object, tokens: Sequence[Token]) -> list[int]:
    """Whole numbers of frames; 0.5 is likely meant in seconds."""
    for token in tokens:
        if not token.value.lstrip("+-").isdecimal():
            raise UsageError(
                f"--tolerance-frames {token.value} is no whole number of frames; seconds go with --tolerance"
            )
    return [int(token.value) for token in tokens]


def evaluate(
    *,
    predictions: Path,
    annotations: Path,
    split: list[str],
    protocol: Literal["thumos", "activitynet", "epic", "ego4d", "soccernet-tight", "soccernet-loose"] | None = None,
    tiou: list[float] | None = None,
    tolerance: list[float] | None = None,
    tolerance_frames: Annotated[list[int] | None, Parameter(converter=_frames)] = None,
    fps: float | None = None,
    point_position: Literal["start", "centre", "end"] | None = None,
    json: Path | None = None,
    per_class: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Score a results file against annotations: mAP at tIoU thresholds, or of point events at tolerances.

    Segments under 1 ms, and repeats within 1 ms, do not count. Detections in recordings outside the split are false
    positives. Classes are matched by label where both files have labels, else by id.

    Parameters
    ----------
    predictions
        Results file, as `eventide predict` writes it.
    annotations
        Annotation file, ActivityNet-style JSON.
    split
        Subset or subsets to score, upper or lower case.
    protocol
        Published way to score. Segments: thumos, tIoU 0.3 to 0.7 by 0.1; activitynet, 0.5 to 0.95 by 0.05; epic and
        ego4d, 0.1 to 0.5 by 0.1. Points: SoccerNet's average-mAP, tight (1 to 5 s) and loose (5 to 60 s).
    tiou
        Thresholds of your own for segments, instead of a protocol.
    tolerance
        Tolerances for points, in seconds. Points are scored at 0.25, 0.5 and 1 where nothing is given.
    tolerance_frames
        Tolerances for points, in frames, instead; every time is rounded to its frame first.
    fps
        Frames per second of all recordings, for tolerances in frames; without it, those in the annotation file.
    point_position
        Where the point of an annotated segment lies when points are scored; its centre without this.
    json
        Also write all numbers to this file.
    per_class
        Print the average precision of every class, too.
    """
    from eventide.evaluation.protocols import choose_rule
    from eventide.evaluation.results import read_results
    from eventide.ops.files import write_text

    choose_rule(protocol, tiou, tolerance, tolerance_frames, "points")  # before files are read
    found = read_results(predictions)
    rule = choose_rule(protocol, tiou, tolerance, tolerance_frames, found.kind)
    check_options(rule, found, predictions, fps, point_position)
    metrics = score_files(found, annotations, split, rule, fps, point_position or "centre")
    print_metrics(metrics, per_class)
    if json is not None:
        origin = {"predictions": str(predictions), "annotations": str(annotations), "split": split}
        asked = {"fps": fps, "point_position": point_position or "centre"} if rule.kind == "points" else {}
        write_text(json, json_format.dumps({**origin, **asked, "protocol": protocol, **metrics}, indent=2) + "\n")
        print(f"Written to {json}")


def check_options(rule: Rule, found: Predictions, path: Path, fps: float | None, position: str | None) -> None:
    """Refuse options that do not fit one another or the results.

    Raises:
        UsageError: what was given, and what fits.
    """
    from eventide.evaluation.protocols import FOR_POINTS, FOR_SEGMENTS

    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise UsageError(f"--fps {fps:g} is no frame rate; it is a number above 0")
    if found.kind is not None and found.kind != rule.kind:
        key, fitting = ("time", FOR_POINTS) if found.kind == "points" else ("segment", FOR_SEGMENTS)
        what, other = ("point events", "segments") if found.kind == "points" else ("segments", "point events")
        raise UsageError(
            f"{path} holds {what} (records with '{key}'), and {rule.option} scores {other}; "
            f"{what} are scored with {fitting}"
        )
    if fps is not None and rule.measure != "frames":
        raise UsageError("--fps is for tolerances in frames; give --tolerance-frames with it, or leave it out")
    if position is not None and rule.kind == "segments":
        raise UsageError(
            "--point-position says where points lie, and segments are scored here; leave it out, or score points with "
            + FOR_POINTS
        )


def score_files(
    found: Predictions,
    annotations: Path,
    split: list[str],
    rule: Rule,
    fps: float | None = None,
    position: PointPosition = "centre",
) -> dict[str, Any]:
    """All numbers of `eventide eval`.

    Raises:
        EventideError: a file is not as it should be, the split has no such events, or frame rates are missing.
    """
    from eventide.data.annotations import load_annotations
    from eventide.data.annotations import split as recordings_of
    from eventide.evaluation.events import GroundTruth

    annotated = load_annotations(annotations)
    recordings = recordings_of(annotated, split)
    truth = GroundTruth.from_recordings(recordings, annotated.labels, rule.kind, position)
    if len(truth) == 0:
        others = (
            f"; they have {truth.num_other_kind} point event(s), which are scored against results of points"
            if rule.kind == "segments" and truth.num_other_kind
            else ""
        )
        what = "segments" if others else "events"
        raise EventideError(
            f"{annotations}: the {len(truth.recordings)} recording(s) of split {' and '.join(map(repr, split))} "
            f"have no {what}: there is nothing to score against{others}"
        )
    rates = frame_rates(recordings, annotations, fps) if rule.measure == "frames" else None
    return score_by_rule(truth, found, rule, rates)


def score_by_rule(truth: GroundTruth, found: Predictions, rule: Rule, fps: dict[str, float] | None) -> dict[str, Any]:
    """The numbers of the rule's evaluator; `fps` of every recording where the rule counts frames."""
    from eventide.evaluation.points import evaluate_points
    from eventide.evaluation.segments import evaluate_segments
    from eventide.evaluation.soccernet import soccernet_average_map

    if rule.measure == "tiou":
        return evaluate_segments(truth, found, rule.thresholds).to_dict()
    if rule.measure == "soccernet":
        return soccernet_average_map(truth, found, rule.thresholds).to_dict()
    return evaluate_points(truth, found, rule.thresholds, fps).to_dict()


def frame_rates(recordings: Sequence[Recording], path: Path, fps: float | None) -> dict[str, float]:
    """Frames per second of every recording: `fps` for all, else what the annotation file says.

    Raises:
        EventideError: the file does not say it of a recording.
    """
    from eventide.ops.problems import name_some

    missing = [recording.id for recording in recordings if recording.fps is None]
    if missing and fps is None:
        raise EventideError(
            f'{path}: {len(missing)} of {len(recordings)} recording(s) have no "fps" ({name_some(missing)}), and '
            "--tolerance-frames needs it; add it to the file, give --fps, or use --tolerance in seconds"
        )
    return {recording.id: fps or recording.fps or 0.0 for recording in recordings}


def print_metrics(metrics: dict[str, Any], per_class: bool) -> None:
    """Print the tables and what was counted."""
    from rich.console import Console

    from eventide.report.metric_tables import class_tables, metric_table

    # a pipe has no width of its own: nothing is folded there
    console = Console() if sys.stdout.isatty() else Console(width=250)
    console.print(metric_table(metrics))
    if per_class:
        for table in class_tables(metrics):
            console.print(table)
    for line in summary(metrics):
        print(line)


def summary(metrics: dict[str, Any]) -> list[str]:
    """What was counted, and what a user should wonder about, one line each."""
    counts = metrics["counts"]
    points = "tiou_thresholds" not in metrics
    dropped = "repeated" if points else "too short or repeated"
    lines = [
        f"{counts['ground_truth']} events of {len(metrics['classes'])} classes in {counts['recordings']} recordings "
        f"({counts['ground_truth_dropped']} {dropped}), {counts['predictions']} predictions, "
        f"classes matched by {metrics['classes_matched_by']}"
    ]
    if counts["ground_truth_of_other_kind"]:
        number = counts["ground_truth_of_other_kind"]
        lines.append(
            f"note: {number} annotated segments are taken as points"
            if points
            else f"note: {number} point events do not count here: segments are scored"
        )
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
