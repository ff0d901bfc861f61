"""Evaluation results as tables for the terminal. They take the plain dictionary that also goes into the JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def metric_table(metrics: Mapping[str, Any]) -> Table:
    """mAP and recall at each threshold, and their averages, in percent; of points also the timing error."""
    title, head = _titles(metrics)
    columns = {"mAP": metrics["mAP"]}
    if "recall" in metrics:
        columns["recall"] = metrics["recall"]
    columns |= {
        f"Recall@{key[len('recall_at_') :]}": values for key, values in metrics.items() if key.startswith("recall_at_")
    }
    errors = metrics.get("timing_error")
    table = Table(title=title, title_justify="left")
    for name in (head, *columns, *(["timing error"] if errors else [])):
        table.add_column(name, justify="right")
    for row, threshold in enumerate(thresholds(metrics)):
        extra = [seconds(errors[row])] if errors else []
        table.add_row(threshold, *(percent(values[row]) for values in columns.values()), *extra)
    table.add_section()
    averages = [metrics["average_mAP"], *(_mean(values) for name, values in columns.items() if name != "mAP")]
    table.add_row("average", *(percent(value) for value in averages), *([""] if errors else []), style="bold")
    return table


def class_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """AP of every class; of points also a table of their recall and timing errors."""
    tables = [class_table(metrics)]
    if "per_class_timing_error" in metrics:
        tables.append(_found_table(metrics))
    return tables


def class_table(metrics: Mapping[str, Any]) -> Table:
    """AP of every class per threshold, in percent, with the number of its events and predictions."""
    table = Table(title="Average precision per class (%)", title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("events", "predictions", *(f"@{threshold}" for threshold in thresholds(metrics)), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for column, name in enumerate(metrics["classes"]):
        precisions = [row[column] for row in metrics["per_class_AP"]]
        table.add_row(
            Text(name),
            str(metrics["num_ground_truth"][column]),
            str(metrics["num_predictions"][column]),
            *(percent(value) for value in precisions),
            percent(metrics["average_AP"][column] if "average_AP" in metrics else _mean(precisions)),
        )
    table.add_section()
    table.add_row(
        "all",
        str(sum(metrics["num_ground_truth"])),
        str(sum(metrics["num_predictions"])),
        *(percent(value) for value in metrics["mAP"]),
        percent(metrics["average_mAP"]),
        style="bold",
    )
    return table


def _found_table(metrics: Mapping[str, Any]) -> Table:
    """Recall in percent and mean absolute timing error of every class per tolerance."""
    table = Table(title="Recall (%) and mean timing error per class", title_justify="left")
    table.add_column("class", overflow="fold")
    for what in ("recall", "error"):
        for threshold in thresholds(metrics):
            table.add_column(f"{what} @{threshold}", justify="right", no_wrap=True)
    for column, name in enumerate(metrics["classes"]):
        shares = [percent(row[column]) for row in metrics["per_class_recall"]]
        table.add_row(Text(name), *shares, *(seconds(row[column]) for row in metrics["per_class_timing_error"]))
    table.add_section()
    table.add_row(
        "all",
        *(percent(share) for share in metrics["recall"]),
        *(seconds(error) for error in metrics["timing_error"]),
        style="bold",
    )
    return table


def _titles(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Title of the table of all classes, and what its rows are."""
    if "tiou_thresholds" in metrics:
        return "Segment detection (%)", "tIoU"
    if "windows" in metrics:
        return "SoccerNet mAP (%)", "window"
    return "Point detection (%)", "tolerance"


def thresholds(metrics: Mapping[str, Any]) -> list[str]:
    """The thresholds, tolerances or windows as text."""
    if "tiou_thresholds" in metrics:
        return [f"{threshold:.2f}" for threshold in metrics["tiou_thresholds"]]
    if metrics.get("tolerance_unit") == "frames":
        return [f"{frames:g} frame{'' if frames == 1 else 's'}" for frames in metrics["tolerances"]]
    values: Sequence[float] = metrics["windows"] if "windows" in metrics else metrics["tolerances"]
    return [f"{value:g} s" for value in values]


def percent(share: float) -> str:
    """A share as percent with two decimals."""
    return f"{100 * share:.2f}"


def seconds(error: float | None) -> str:
    """A timing error in seconds; a dash where nothing was found."""
    return "-" if error is None else f"{error:.3f} s"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
