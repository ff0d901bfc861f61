"""`eventide plot`: ground truth against detections, and precision-recall curves, from files alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eventide.types import EventideError, EventKind, Recording, UsageError

if TYPE_CHECKING:
    from eventide.evaluation.curves import PrecisionRecall
    from eventide.evaluation.events import GroundTruth, Predictions
    from eventide.report.time_bars import RecordingBars

MOST_RECORDINGS, MOST_ROWS = 5, 60


def plot(
    *,
    predictions: Path,
    annotations: Path,
    split: list[str],
    output: Path,
    kind: Literal["bars", "pr"] = "bars",
    recording: Annotated[list[str] | None, Parameter(name=["--recording", "--recordings"])] = None,
    min_score: float | None = None,
    tiou: float | None = None,
    tolerance: float | None = None,
    point_position: Literal["start", "centre", "end"] = "centre",
) -> None:
    """Draw ground truth against detections on time lines, or precision-recall curves.

    Parameters
    ----------
    predictions
        Results file, as `eventide predict` writes it.
    annotations
        Annotation file, ActivityNet-style JSON.
    split
        Subset or subsets to draw, upper or lower case.
    output
        Picture to write: .png, .svg or .pdf.
    kind
        bars: a time line per recording, with a bar for each segment and a tick for each point event; pr: precision
        against recall per class, and the mean.
    recording
        Recordings to draw as bars; without it, up to five with the most events.
    min_score
        Draw detections from this score on; without it, the score that gives the best F1 over the whole split.
    tiou
        Overlap from which a segment counts as right, for the curves and the best F1; 0.5 without this.
    tolerance
        The same of point events, in seconds; 0.5 without this.
    point_position
        Where the point of an annotated segment lies when points are drawn.
    """
    from eventide.data.annotations import load_annotations
    from eventide.data.annotations import split as recordings_of
    from eventide.evaluation.curves import precision_recall
    from eventide.evaluation.events import GroundTruth
    from eventide.evaluation.results import read_results
    from eventide.report.figures import check_ending

    check_ending(output)
    found = read_results(predictions)
    annotated = load_annotations(annotations)
    recordings = recordings_of(annotated, split)
    known = found.kind or (only_points(recordings) if tiou is None else None)
    events, threshold = choose_threshold(known, predictions, tiou, tolerance)
    chosen = choose(recordings, recording, annotations, split)
    truth = GroundTruth.from_recordings(recordings, annotated.labels, events, point_position)
    curves = precision_recall(truth, found, threshold)
    if kind == "pr":
        plot_curves(output, curves, annotations, split)
    else:
        plot_bars(output, chosen, truth, found, curves, min_score)
    print(f"Written to {output}")


def only_points(recordings: Sequence[Recording]) -> EventKind | None:
    """Points if there are events and all of them are points."""
    marked = [r.is_point is not None and bool(r.is_point.all()) for r in recordings if len(r.segments)]
    return "points" if marked and all(marked) else None


def choose_threshold(
    kind: EventKind | None, path: Path, tiou: float | None, tolerance: float | None
) -> tuple[EventKind, float]:
    """What is drawn (`kind`, else as the options say), and from which tIoU or tolerance it is right.

    Raises:
        UsageError: an option is for the other kind of events, or holds no threshold.
    """
    if tiou is not None and tolerance is not None:
        raise UsageError("--tiou is for segments, --tolerance for point events; give one of them")
    if tiou is not None and not 0 < tiou <= 1:
        raise UsageError(f"--tiou {tiou:g} is no overlap; it lies above 0 and up to 1, such as 0.5")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"--tolerance {tolerance:g} is no tolerance; give seconds from 0 on, such as 0.5")
    if kind == "points" and tiou is not None:
        raise UsageError(f"{path} holds point events, and --tiou is for segments; give --tolerance, in seconds")
    if kind == "segments" and tolerance is not None:
        raise UsageError(f"{path} holds segments, and --tolerance is for point events; give --tiou, such as 0.5")
    if kind == "points" or tolerance is not None:
        return "points", 0.5 if tolerance is None else tolerance
    return "segments", 0.5 if tiou is None else tiou


def choose(recordings: Sequence[Recording], names: list[str] | None, path: Path, split: list[str]) -> list[Recording]:
    """The recordings that are named, or those with the most events (as many as fit), in the order of the file.

    Raises:
        UsageError: one that is named is not in the split.
    """
    if names:
        by_name = {recording.id: recording for recording in recordings}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise UsageError(
                f"--recording {missing[0]}: {path} has no such recording in split {' and '.join(split)}, "
                f"which has {len(by_name)}, such as {next(iter(by_name))}"
            )
        return [by_name[name] for name in dict.fromkeys(names)]
    most = sorted(range(len(recordings)), key=lambda i: -len(recordings[i].segments))[:MOST_RECORDINGS]
    rows = list(itertools.accumulate(len(set(recordings[i].label_ids.tolist())) for i in most))
    fitting = [i for i, so_far in zip(most, rows, strict=True) if so_far <= MOST_ROWS]
    return [recordings[i] for i in sorted(fitting or most[:1])]


def plot_curves(output: Path, curves: PrecisionRecall, annotations: Path, split: list[str]) -> None:
    """Write the precision-recall curves.

    Raises:
        EventideError: the split has no events, so there are none.
    """
    if not curves.classes:
        raise EventideError(
            f"{annotations}: the recordings of split {' and '.join(split)} have no events, so there are no curves"
        )
    from eventide.report.curves import draw_precision_recall

    draw_precision_recall(
        output,
        curves.classes,
        curves.recall,
        curves.precision,
        curves.mean_precision,
        curves.average_precision,
        f"Precision and recall at {curves.rule}",
    )


def plot_bars(
    output: Path,
    recordings: Sequence[Recording],
    truth: GroundTruth,
    found: Predictions,
    curves: PrecisionRecall,
    min_score: float | None,
) -> None:
    """Write the time bars of some recordings."""
    from eventide.report.time_bars import draw_time_bars

    lowest = curves.best_score if min_score is None else min_score
    names, bars = collect_bars(recordings, truth, found, lowest)
    why = f"best F1, {curves.best_f1:.2f} at {curves.rule}" if min_score is None else "as given"
    if len(found) == 0:
        why = "there are none in the results file"
    draw_time_bars(output, bars, names, f"Ground truth and detections with a score of {lowest:.3g} or more ({why})")


def collect_bars(
    recordings: Sequence[Recording], truth: GroundTruth, found: Predictions, lowest: float
) -> tuple[list[str], list[RecordingBars]]:
    """Names of the classes, and what is drawn of each recording; detections of unknown classes share one more."""
    from eventide.evaluation.events import match_classes
    from eventide.report.time_bars import RecordingBars

    classes = match_classes(truth, found)
    names = list(classes.names)
    found_class = classes.predictions.copy()
    if (found_class < 0).any():
        found_class[found_class < 0] = len(names)
        names.append("other classes")
    where = {name: i for i, name in enumerate(truth.recordings)}
    found_where = {name: i for i, name in enumerate(found.recordings)}
    bars = []
    for recording in recordings:
        own = truth.recording_index == where[recording.id]
        seen = (found.recording_index == found_where.get(recording.id, -1)) & (found.scores >= lowest)
        ends = [*truth.segments[own, 1].tolist(), *found.segments[seen, 1].tolist(), 0.0]
        bars.append(
            RecordingBars(
                name=recording.id,
                duration=recording.duration or max(ends),
                truth=truth.segments[own],
                truth_class=classes.ground_truth[own],
                found=found.segments[seen],
                found_class=found_class[seen],
                scores=found.scores[seen],
                kind=truth.kind or "segments",
                std=None if found.segment_std is None else found.segment_std[seen],
                intervals=None if found.intervals is None else found.intervals[seen],
                interval_levels=found.interval_levels,
            )
        )
    return names, bars
