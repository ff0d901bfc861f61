"""`eventide check`: everything wrong with the data of a configuration at once, and what is in it."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventide.cli.progress import progress_bar
from eventide.types import EventideError

if TYPE_CHECKING:
    from eventide.config import Config
    from eventide.data.check_report import CheckReport, LevelSummary, SplitSummary

# Classes listed in the table; the JSON report has all.
MAX_CLASSES = 60


def check(
    config: Annotated[Path, Parameter(help="Configuration file.")],
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: a.b=value.")] = None,
    headers_only: Annotated[bool, Parameter(help="Do not read the features to look for NaN and Inf.")] = False,
    strict: Annotated[bool, Parameter(help="Exit with 1 also when there are only warnings.")] = False,
    json: Annotated[Path | None, Parameter(help="Write the whole report to this JSON file.")] = None,
) -> None:
    """Check the annotations and features of a configuration.

    Reports every problem at once with file and recording, and prints tables of recordings, events per class, event
    durations per pyramid level, and events that no pyramid point learns; of point events the smallest gap per class
    and the grid step. Exits with 1 if there are problems.
    """
    from eventide.config_loading import load_config
    from eventide.ops.problems import problem_message

    report = _run(load_config(config, set_ or ()), scan_values=not headers_only)
    if json is not None:
        _write(json, report)
    print_report(report, Console())
    if report.problems:
        raise EventideError(problem_message(str(config), report.problems, limit=len(report.problems)))
    if strict and report.warnings:
        raise EventideError(f"{config}: {len(report.warnings)} warning(s), listed above (--strict)")


def _run(config: Config, *, scan_values: bool) -> CheckReport:
    """Check with a progress bar."""
    from eventide.data.checks import check_dataset

    with progress_bar("reading features") as on_progress:
        return check_dataset(config, scan_values=scan_values, progress=on_progress)


def _write(path: Path, report: CheckReport) -> None:
    from eventide.ops.files import write_text

    write_text(path, json_format.dumps(report.to_dict(), indent=1) + "\n")


def print_report(report: CheckReport, console: Console) -> None:
    """Print the tables and warnings of a report; problems are left to the caller."""
    if report.splits:
        console.print(_split_table(report))
    if report.classes:
        console.print(_class_table(report))
        if len(report.classes) > MAX_CLASSES:
            console.print(f"... and {len(report.classes) - MAX_CLASSES} more classes (--json FILE has all)")
    if report.grid_step is not None:
        console.print(f"One grid step lasts {report.grid_step:.4g} s.", highlight=False)
    if report.levels:
        console.print(_level_table(report))
        console.print(_point_line(report), soft_wrap=True, highlight=False, markup=False)
    for warning in report.warnings:
        console.print(f"warning: {warning}", soft_wrap=True, highlight=False, markup=False)
    if not report.problems:
        console.print(f"no problems, {len(report.warnings)} warning(s)", highlight=False)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _split_table(report: CheckReport) -> Table:
    table = _table("Recordings", ["", *(item.name for item in report.splits)])
    rows: dict[str, Callable[[SplitSummary], str]] = {
        "subsets": lambda item: ", ".join(item.subsets),
        "recordings": lambda item: str(item.recordings),
        "without features": lambda item: str(item.missing),
        "without events": lambda item: str(item.negatives),
        "events": lambda item: str(item.events),
        "hours": lambda item: f"{item.hours:.2f}",
        "feature vectors, fewest": lambda item: _number(item.vectors_min),
        "median": lambda item: _number(item.vectors_median),
        "most": lambda item: _number(item.vectors_max),
    }
    for name, value in rows.items():
        table.add_row(name, *(Text(value(item)) for item in report.splits))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _class_table(report: CheckReport) -> Table:
    splits = list(report.classes[0].events)
    points = report.events == "points"
    extra = ["smallest gap (s)"] if points else []
    table = _table("Point events per class" if points else "Events per class", ["class", "id", *splits, *extra])
    for item in report.classes[:MAX_CLASSES]:
        gaps = ["-" if item.smallest_gap is None else f"{item.smallest_gap:.4g}"] if points else []
        counts = [str(item.events[split]) for split in splits]
        table.add_row(Text(item.label), str(item.label_id), *counts, *gaps)
    return table


def _level_table(report: CheckReport) -> Table:
    percentiles = next((list(item.seconds) for item in report.levels if item.seconds), [])
    title = "Training events per pyramid level (one may be on two), seconds"
    table = _table(title, ["level", "stride", "distances", "events", "share", *percentiles])
    for item in report.levels:
        table.add_row(
            str(item.level),
            str(item.stride),
            f"{item.nearest:g}-{item.farthest:g}",
            str(item.events),
            f"{100 * item.share:.1f}%",
            *_durations(item, percentiles),
        )
    return table


def _durations(item: LevelSummary, percentiles: Sequence[str]) -> list[str]:
    return [f"{item.seconds[name]:.3g}" if item.seconds else "-" for name in percentiles]


def _point_line(report: CheckReport) -> str:
    points = report.points
    unlearnt = points.without_point + points.lost_to_shorter
    line = f"{unlearnt} of {points.events} training events ({100 * points.share:.2f}%) get no positive point"
    if not unlearnt:
        return line
    return (
        f"{line}: {points.without_point} lie between the points or outside every level's range, "
        f"{points.lost_to_shorter} lose all their points to shorter events; "
        f"half of them last {points.seconds['p50']:.2f} s or less"
    )
