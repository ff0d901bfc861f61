"""A calibration as tables for the terminal. They take the plain dictionary that also goes into the JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from eventide.report.metric_tables import percent

Column = Mapping[str, Any]


def calibration_table(report: Mapping[str, Any]) -> Table:
    """What was fitted, and scores and intervals before and after, on the split and on held-out parts of it."""
    ((way, limit),) = report["right_from"].items()
    unit = " s" if way == "tolerance" else ""
    table = Table(title=f"Calibration ({way} {limit:g}{unit})", title_justify="left")
    columns: dict[str, Column] = {"split": report}
    if report["held_out"] is not None:
        folds = report["held_out"]["folds"]
        columns |= {f"held out {number}": fold for number, fold in enumerate(folds, 1)}
        if len(folds) > 1:
            columns["held out, together"] = report["held_out"]["together"]
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for label, cells in _rows(list(columns.values())):
        table.add_row(label, *cells)
    return table


def _rows(columns: list[Column]) -> list[tuple[str, list[str]]]:
    """Label and cells of every row."""
    rows = [
        ("events", [str(column["events"]) for column in columns]),
        ("temperature", [_number(column.get("temperature")) for column in columns]),
        (
            f"detections from score {columns[0]['score_floor']} on",
            [_counts(column["calibration_error"]) for column in columns],
        ),
        ("expected calibration error (%)", [_change(column["calibration_error"]) for column in columns]),
        (
            "negative log likelihood per event",
            [_arrow(column["negative_log_likelihood"], "{:.3f}") for column in columns],
        ),
        ("F1 at the operating point (%)", [percent(column["operating_point"]["f1"]) for column in columns]),
        ("F1, one threshold (%)", [percent(column["common_operating_point"]["f1"]) for column in columns]),
    ]
    if "intervals" in columns[0]:
        rows.append(("scale of the intervals", [_number(column.get("std_scale")) for column in columns]))
        rows.append(("true boundaries", [str(column["intervals"]["boundaries"]) for column in columns]))
        for index, level in enumerate(columns[0]["intervals"]["levels"]):
            coverage = [column["intervals"]["coverage"] for column in columns]
            cells = [f"{percent(c['before'][index])} → {percent(c['after'][index])}" for c in coverage]
            rows.append((f"inside the {100 * level:g}% interval (%)", cells))
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _change(errors: Mapping[str, Any]) -> str:
    """Calibration error before and after; a dash where no detection counts."""
    before, after = (percent(e["error"]) if e["detections"] else "-" for e in (errors["before"], errors["after"]))
    return f"{before} → {after}"


def _counts(errors: Mapping[str, Any]) -> str:
    return f"{errors['before']['detections']} → {errors['after']['detections']}"


def _arrow(values: Mapping[str, float], form: str) -> str:
    return f"{form.format(values['before'])} → {form.format(values['after'])}"


def point_table(report: Mapping[str, Any]) -> Table:
    """Threshold of every class with precision, recall and F1 above it (percent)."""
    table = Table(title="Operating point: best F1 of each class", title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("events", "threshold", "detections", "precision", "recall", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in report["classes"]:
        why = f"threshold of all classes together: {row['why']}" if row["why"] else ""
        table.add_row(Text(row["label"]), *_cells(row, f"{row['threshold']:.4f}"), why)
    table.add_section()
    table.add_row("all", *_cells(report["operating_point"], ""), style="bold")
    return table


def _cells(row: Mapping[str, Any], threshold: str) -> list[str]:
    shares = [percent(row[key]) for key in ("precision", "recall", "f1")]
    return [str(row["events"]), threshold, str(row["detections"]), *shares]
