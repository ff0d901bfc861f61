"""Tables of a measurement, from its JSON content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from eventide.report.units import bytes_text, count_text, percent_text, ratio_text, seconds_text

Content = Mapping[str, Any]
NAMES = {"seconds": "time", "memory_bytes": "memory"}


def bench_tables(content: Content) -> list[Table]:
    """One table for training and one for inference, where there are rows; one of the fits, where there are fits."""
    tables = []
    for work, title in (("training", "Training step"), ("inference", "Inference, features to detections")):
        rows = [row for row in content["rows"] if row["work"] == work]
        if rows:
            tables.append(_work_table(title, rows))
    if content["fits"]:
        tables.append(_fit_table(content["fits"]))
    return tables


def _work_table(title: str, rows: Sequence[Content]) -> Table:
    inference = rows[0]["work"] == "inference"
    columns = ["T", "batch", "time", *(["network"] if inference else []), "recordings/s", "vectors/s", "FLOP/recording"]
    columns += ["attention FLOP", *(["attention time"] if inference else []), "of matrix rate", "peak memory", "in all"]
    table = _table(title, [*columns, "runs"])
    for row in rows:
        cells = [f"{row['length']:,}", str(row["batch"]), seconds_text(row["seconds"])]
        cells += [seconds_text(row["network_seconds"])] if inference else []
        cells += [_rate(row["recordings_per_second"]), count_text(row["vectors_per_second"])]
        cells += [count_text(row["operations_per_recording"]), percent_text(row["attention_operations_share"])]
        cells += [percent_text(row["attention_time_share"])] if inference else []
        cells += [percent_text(row["matrix_rate_share"]), bytes_text(row["memory_bytes"])]
        table.add_row(*cells, bytes_text(row["memory_in_all_bytes"]), str(row["runs"]))
    return table


def _fit_table(fits: Sequence[Content]) -> Table:
    table = _table(
        "Growth with T (cost = slope T + intercept)",
        ["", "batch", "slope per 1,000 vectors", "intercept", "R^2", "exponent", "lengths"],
    )
    for fit in fits:
        text = seconds_text if fit["quantity"] == "seconds" else bytes_text
        table.add_row(
            f"{fit['work']} {NAMES[fit['quantity']]}",
            str(fit["batch"]),
            _signed(fit["slope"] * 1000, text),
            _signed(fit["intercept"], text),
            f"{fit['r_squared']:.4f}",
            "-" if fit["exponent"] is None else f"{fit['exponent']:.2f}",
            str(fit["points"]),
        )
    return table


def ablation_table(content: Content) -> Table:
    """Ratios to the first row beside the guide's, and what they are ratios of."""
    table = _table(
        f"Ablation, T = {content['length']:,}, training batch {content['training_batch']}",
        [
            *("", "training time", "guide", "training memory", "guide", "inference time"),
            *("training step", "memory", "inference", "parameters", "runs"),
        ],
    )
    for row in content["rows"]:
        training, inference = row["training"], row["inference"]
        table.add_row(
            row["label"],
            ratio_text(row["training_time_ratio"]),
            ratio_text(row["guide_time_ratio"]),
            ratio_text(row["training_memory_ratio"]),
            ratio_text(row["guide_memory_ratio"]),
            ratio_text(row["inference_time_ratio"]),
            seconds_text(training["seconds"]),
            bytes_text(training["memory_in_all_bytes"]),
            seconds_text(inference["seconds"]),
            count_text(row["parameters"]),
            str(training["runs"]),
        )
    return table


def left_out(content: Content) -> list[str]:
    """Why rows were not measured, a line each."""
    if content["rows"] and "label" in content["rows"][0]:
        return [f"{row['label']}: {row['reason']}" for row in content["rows"] if row["reason"]]
    return [
        f"not measured: {row['work']}, T = {row['length']:,}, batch {row['batch']}: {row['error']}"
        for row in content["rows"]
        if row["error"]
    ]


def heading(content: Content) -> list[str]:
    """What was measured on what, a line each."""
    machine = content["machine"]
    lines = [f"{content['config']}: {content['model']}, {count_text(content['parameters'])} parameters"]
    rate = content["matrix_rate"]
    speed = "" if rate is None else f", matrix rate {count_text(rate)}FLOP/s"
    lines.append(f"{machine_text(machine)}, precision {content['precision']}{speed}")
    return lines


def machine_text(machine: Content) -> str:
    """The machine in one line."""
    threads = f", {machine['threads']} thread(s)" if machine["device"] == "cpu" else ""
    return f"{machine['device']}: {machine['device_name']}{threads}, torch {machine['torch']}"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 and not column else "right", overflow="fold")
    return table


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _signed(value: float, text: Any) -> str:
    shown = str(text(abs(value)))
    return f"-{shown}" if value < 0 and shown != text(0.0) else shown
