"""`eventide plot`: ground truth against detections, and precision-recall curves, from files alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eventide.types import EventideError, Recording, UsageError

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
    tiou: float = 0.5,
) -> None:
    """Draw ground truth against detections as time bars, or precision-recall curves.

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
        bars: a time line per recording; pr: precision against recall per class, and the mean.
    recording
        Recordings to draw as bars; without it, up to five with the most events.
    min_score
        Draw detections from this score on; without it, the score that gives the best F1 over the whole split.
    tiou
        Overlap from which a detection counts as right, for the curves and the best F1.
    """
    from eventide.data.annotations import load_annotations
    from eventide.data.annotations import split as recordings_of
    from eventide.evaluation.curves import precision_recall
    from eventide.evaluation.events import GroundTruth
    from eventide.evaluation.results import read_results
    from eventide.report.figures import check_ending

    check_ending(output)
    if not 0 < tiou <= 1:
        raise UsageError(f"--tiou {tiou:g} is no overlap; it lies above 0 and up to 1, such as 0.5")
    found = read_results(predictions)
    annotated = load_annotations(annotations)
    recordings = recordings_of(annotated, split)
    chosen = choose(recordings, recording, annotations, split)
    truth = GroundTruth.from_recordings(recordings, annotated.labels)
    curves = precision_recall(truth, found, tiou)
    if kind == "pr":
        if len(truth) == 0:
            raise EventideError(
                f"{annotations}: the recordings of split {' and '.join(split)} have no events, so there are no curves"
            )
        plot_curves(output, curves)
    else:
        plot_bars(output, chosen, truth, found, curves, min_score)
    print(f"Written to {output}")


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


def plot_curves(output: Path, curves: PrecisionRecall) -> None:
    """Write the precision-recall curves."""
    from eventide.report.curves import draw_precision_recall

    draw_precision_recall(
        output,
        curves.classes,
        curves.recall,
        curves.precision,
        curves.mean_precision,
        curves.average_precision,
        f"Precision and recall at tIoU {curves.tiou:g}",
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
    why = f"best F1, {curves.best_f1:.2f} at tIoU {curves.tiou:g}" if min_score is None else "as given"
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
            )
        )
    return names, bars
