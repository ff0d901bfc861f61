"""Evaluation results as tables for the terminal. They take the plain dictionary that also goes into the JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text


def metric_table(metrics: Mapping[str, Any]) -> Table:
    """mAP and recall per tIoU threshold, and their averages, in percent."""
    columns = {"mAP": metrics["mAP"]}
    columns |= {
        f"Recall@{key[len('recall_at_') :]}": values for key, values in metrics.items() if key.startswith("recall_at_")
    }
    table = Table(title="Segment detection (%)", title_justify="left")
    table.add_column("tIoU", justify="right")
    for name in columns:
        table.add_column(name, justify="right")
    for row, threshold in enumerate(metrics["tiou_thresholds"]):
        table.add_row(f"{threshold:.2f}", *(percent(values[row]) for values in columns.values()))
    table.add_section()
    table.add_row("average", *(percent(_mean(values)) for values in columns.values()), style="bold")
    return table


def class_table(metrics: Mapping[str, Any]) -> Table:
    """AP of every class per threshold, in percent, with the number of its events and predictions."""
    table = Table(title="Average precision per class (%)", title_justify="left")
    table.add_column("class", overflow="fold")
    for name in ("events", "predictions", *(f"@{t:.2f}" for t in metrics["tiou_thresholds"]), "average"):
        table.add_column(name, justify="right", no_wrap=True)
    for column, name in enumerate(metrics["classes"]):
        precisions = [row[column] for row in metrics["per_class_AP"]]
        table.add_row(
            Text(name),
            str(metrics["num_ground_truth"][column]),
            str(metrics["num_predictions"][column]),
            *(percent(value) for value in precisions),
            percent(_mean(precisions)),
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


def percent(share: float) -> str:
    """A share as percent with two decimals."""
    return f"{100 * share:.2f}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
