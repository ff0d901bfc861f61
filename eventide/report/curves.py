"""Precision against recall, per class and in the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eventide.report.figures import FAINT, INK, class_colours, clear_frame, legend_text, new_figure, shortened

MOST_NAMED = 20


def draw_precision_recall(
    path: str | Path,
    classes: Sequence[str],
    recall: Sequence[np.ndarray],
    precision: Sequence[np.ndarray],
    mean_precision: np.ndarray,
    average_precision: Sequence[float],
    caption: str,
) -> None:
    """Interpolated precision (falling) over recall (rising), one line per class, and their mean.

    `mean_precision` belongs to evenly spaced recalls from 0 to 1. More than 20 classes are grey, without names.

    Raises:
        UsageError: `path` is no picture file, or cannot be written.
    """
    named = len(classes) <= MOST_NAMED
    colours = class_colours(len(classes)) if named else [FAINT] * len(classes)
    with new_figure(path, 7.6 if named else 5.4, 4.6) as figure:
        axes = figure.subplots()
        _draw_frame(axes)
        lines = []
        order = np.argsort([-value for value in average_precision], kind="stable")
        for c in order.tolist():
            (line,) = axes.plot(
                *stairs(recall[c], precision[c]),
                color=colours[c],
                linewidth=1.5 if named else 0.7,
                alpha=0.95 if named else 0.45,
                zorder=3,
            )
            line.set_label(legend_text(f"{_percent(average_precision[c])}  {shortened(classes[c], 26)}"))
            lines.append(line)
        grid = np.linspace(0, 1, len(mean_precision))
        (mean,) = axes.plot(grid, mean_precision, color=INK, linewidth=2.4, zorder=4)
        mean.set_label(f"{_percent(float(np.mean(average_precision or [0.0])))}  mean")
        axes.set_title(caption, loc="left", pad=8)
        if lines and not named:
            lines[0].set_label(f"one of {len(classes)} classes")
        shown = [mean, *lines] if named else [mean, *lines[:1]]
        place: dict[str, Any] = {"loc": "outside right upper"} if named else {"loc": "outside lower center"}
        figure.legend(handles=shown, title="AP (%)", alignment="left", frameon=False, fontsize=8.5, **place)


def _draw_frame(axes: Any) -> None:
    """Axes from 0 to 1, with lines of equal F1."""
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1), 1, 200)  # from where precision is 1
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="#D5D8DE", linewidth=0.8, zorder=1)
        axes.text(1.005, f1 / (2 - f1), f"F1 {f1:g}", color=FAINT, fontsize=7.5, va="center")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision (interpolated)")
    clear_frame(axes)


def _percent(share: float) -> str:
    """Percent with one decimal, padded by spaces as wide as a digit."""
    return f"{100 * share:5.1f}".replace(" ", "\u2007")


def stairs(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corner points of a curve: each precision holds back to the recall before it; 0 beyond the last recall."""
    if len(recall) == 0:
        return np.array([0.0, 0.0]), np.array([0.0, 0.0])
    steps = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if len(steps) == 0:
        return np.array([0.0, 0.0]), np.array([0.0, 0.0])
    ends, heights = recall[steps], precision[steps]
    starts = np.concatenate([[0.0], ends[:-1]])
    x = np.stack([starts, ends], axis=1).reshape(-1)
    y = np.repeat(heights, 2)
    return (np.append(x, ends[-1]), np.append(y, 0.0)) if ends[-1] < 1 else (x, y)
