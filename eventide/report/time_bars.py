"""Ground truth against detections as bars on the time line of each recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eventide.report.figures import FAINT, INK, class_colours, clear_frame, legend_text, new_figure, shortened

LANE = 0.36  # height of a row of bars; a class has two in a height of 1
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)  # seconds
ROW_INCHES, PANEL_INCHES = 0.36, 0.62


@dataclass(frozen=True)
class RecordingBars:
    """What is drawn of one recording, in seconds."""

    name: str
    duration: float
    truth: np.ndarray  # (G, 2)
    truth_class: np.ndarray  # (G,) index of the class
    found: np.ndarray  # (N, 2)
    found_class: np.ndarray  # (N,)
    scores: np.ndarray  # (N,) 0 to 1

    def classes(self) -> list[int]:
        """The classes that occur here, in order."""
        return sorted({*self.truth_class.tolist(), *self.found_class.tolist()})


def draw_time_bars(path: str | Path, recordings: Sequence[RecordingBars], classes: Sequence[str], caption: str) -> None:
    """One panel per recording, one row per class in it: ground truth above, detections below.

    Detections are the more opaque the higher their score. `classes` names the classes by their index.

    Raises:
        UsageError: `path` is no picture file, or cannot be written.
    """
    rows = [max(len(recording.classes()), 1) for recording in recordings]
    height = sum(ROW_INCHES * row + PANEL_INCHES for row in rows) + 0.75
    colours = class_colours(len(classes))
    with new_figure(path, 9.5, min(height, 180.0)) as figure:
        ratios = [ROW_INCHES * row + 0.1 for row in rows]
        panels = figure.subplots(len(recordings), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
        for axes, recording in zip(panels, recordings, strict=True):
            _draw_recording(axes, recording, classes, colours)
        panels[-1].set_xlabel("time in the recording")
        figure.suptitle(caption, x=0.01, ha="left", fontsize=9.5)
        _add_legend(figure)


def _draw_recording(axes: Any, recording: RecordingBars, classes: Sequence[str], colours: Sequence[str]) -> None:
    """One panel."""
    present = recording.classes()
    for row, c in enumerate(present):
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color="#F3F4F6", linewidth=0, zorder=0)
        truth = recording.truth[recording.truth_class == c]
        _draw_bars(axes, truth, row - 0.21, [colours[c]], INK)
        mine = recording.found_class == c
        order = np.argsort(recording.scores[mine], kind="stable")  # the best on top
        found, scores = recording.found[mine][order], recording.scores[mine][order]
        _draw_bars(axes, found, row + 0.21, [(colours[c], opacity(score)) for score in scores], colours[c])
    axes.set_ylim(max(len(present), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(present)), [shortened(classes[c], 28) for c in present])
    if not present:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no events, no detections", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    axes.set_xlim(0, max(recording.duration, 1e-3))
    axes.set_xticks(ticks(recording.duration))
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds, recording.duration))
    axes.set_title(shortened(recording.name, 80), loc="left", fontweight="bold", pad=4)
    counts = f"{len(recording.truth)} events, {len(recording.found)} detections"
    axes.set_title(counts, loc="right", fontsize=8.5, color=FAINT, pad=4)
    clear_frame(axes, keep=("bottom",))
    axes.tick_params(axis="y", length=0)


def _draw_bars(axes: Any, segments: np.ndarray, centre: float, fill: Sequence[Any], edge: str) -> None:
    """Bars from start to end around a height, all in one go: a recording may have thousands."""
    spans = np.stack([segments[:, 0], segments[:, 1] - segments[:, 0]], axis=1)
    if len(spans):
        axes.broken_barh(spans, (centre - LANE / 2, LANE), facecolors=fill, edgecolors=edge, linewidths=0.6, zorder=3)


def opacity(score: float) -> float:
    """Opacity of a detection; even the lowest score leaves a trace."""
    return 0.08 + 0.92 * min(max(float(score), 0.0), 1.0)


def ticks(duration: float) -> np.ndarray:
    """At most twelve round times from 0 to the end."""
    if duration <= 0:
        return np.zeros(1)
    step = next((step for step in STEPS if 2 <= duration / step <= 11), duration / 10)
    return np.arange(0.0, duration + step * 1e-6, step)


def clock(seconds: float, duration: float) -> str:
    """A time as it suits the length of the recording: seconds, minutes or hours."""
    if duration < 120:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if duration < 3600:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _add_legend(figure: Any) -> None:
    """What the two rows and the shades mean."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=FAINT, edgecolor=INK, linewidth=0.6, label=legend_text("ground truth (upper bar)"))]
    for score in (1.0, 0.6, 0.2):
        handles.append(
            Patch(
                facecolor=(FAINT, opacity(score)),
                edgecolor=FAINT,
                linewidth=0.6,
                label=f"detection (lower bar), score {score:g}" if score == 1.0 else f"score {score:g}",
            )
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8.5)
