"""`eventide calibrate`: scores, thresholds and intervals of a trained model made right on an annotated split."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eventide.cli.progress import stages
from eventide.types import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def calibrate(
    *,
    checkpoint: Annotated[Path, Parameter(help="Run folder, or model file (best.safetensors).")],
    config: Annotated[Path, Parameter(help="Configuration whose data and post-processing are used.")],
    split: Annotated[list[str], Parameter(help="Annotated subset or subsets, not trained on: validation.")],
    annotations: Annotated[Path | None, Parameter(help="Annotation file, in place of the configuration's.")] = None,
    tiou: Annotated[float | None, Parameter(help="Overlap from which a segment is right. Default: 0.5.")] = None,
    tolerance: Annotated[float | None, Parameter(help="Seconds up to which a point is right. Default: 0.5.")] = None,
    folds: Annotated[int | None, Parameter(help="Also fit on the other parts and test on each of this many.")] = None,
    group: Annotated[
        str | None, Parameter(help="With --folds, an expression for what must not be divided: 'user(\\d+)'.")
    ] = None,
    json: Annotated[Path | None, Parameter(help="Also write all numbers to this file.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    force: Annotated[bool, Parameter(help="Replace a calibration that the model holds already.")] = False,
) -> None:
    """Calibrate a trained model on an annotated split, and store the result with the model.

    Fits the temperature of the scores (a score of 0.8 should be right 8 times in 10), the threshold of every class with
    the best F1, and for models with uncertain boundaries the scale of their intervals. The weights stay as they are.
    """
    _check_use(tiou, tolerance, folds, group)
    from eventide.config_loading import load_config
    from eventide.engine.calibrate import Request
    from eventide.engine.calibrate import calibrate as calibrate_model
    from eventide.engine.memory import keep_freed_memory
    from eventide.ops.files import write_text

    keep_freed_memory()
    request = Request(
        config=load_config(config),
        config_path=config,
        splits=split,
        annotations=annotations,
        tiou=tiou,
        tolerance=tolerance,
        folds=folds,
        group=group,
        device=device,
        force=force,
    )
    with stages() as on_progress:
        report = calibrate_model(checkpoint, request, on_progress)
    _print(report)
    if json is not None:
        write_text(json, json_format.dumps(report, indent=2, ensure_ascii=False) + "\n")
        print(f"wrote {json}")


def _check_use(tiou: float | None, tolerance: float | None, folds: int | None, group: str | None) -> None:
    """Sensible numbers, and options that belong together."""
    if tiou is not None and tolerance is not None:
        raise UsageError(
            "give --tiou for a model that finds segments or --tolerance for one that finds points, not both"
        )
    if tiou is not None and not 0 < tiou <= 1:
        raise UsageError(f"--tiou {tiou:g} is no overlap; give a number above 0 and up to 1, such as 0.5")
    if tolerance is not None and not 0 <= tolerance < float("inf"):
        raise UsageError(f"--tolerance {tolerance:g}: give seconds, such as 0.5")
    if folds is not None and folds < 2:
        raise UsageError(f"--folds {folds}: give 2 or more, so that each part can be tested on what the others fitted")
    if group is not None and folds is None:
        raise UsageError("--group says what --folds must not divide; give --folds, too")


def _print(report: dict[str, Any]) -> None:
    """Tables, notes, and where to go on."""
    from eventide.report.calibration_tables import calibration_table, point_table

    console = _console()
    console.print(calibration_table(report))
    console.print(point_table(report))
    for note in report["notes"]:
        print(f"note: {note}")
    print(
        f"temperature, thresholds{' and std_scale' if report['std_scale'] is not None else ''} are stored in "
        f"{report['checkpoint']}"
    )
    print(
        "next: eventide predict --operating-point finds just the events above these thresholds; without it, every "
        "detection, with the new scores"
    )


def _console() -> Console:
    from rich.console import Console

    # a pipe has no width of its own: nothing is folded there
    return Console() if sys.stdout.isatty() else Console(width=250)
