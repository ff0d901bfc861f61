"""Ground truth against detections on the time line of each recording: bars of segments, ticks of point events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eventide.report.figures import FAINT, INK, class_colours, clear_frame, legend_text, new_figure, shortened
from eventide.types import EventKind

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
    kind: EventKind = "segments"  # points have start == end
    std: np.ndarray | None = None  # (N, 2) standard deviation of start and end of `found`, 0 where it is not known
    intervals: np.ndarray | None = None  # (N, 2, 2) lowest and highest quantile of both, NaN where it is not known
    interval_levels: tuple[float, float] | None = None  # of these quantiles, None where they are not all the same

    def whiskers(self) -> tuple[np.ndarray, np.ndarray]:
        """From where to where each start and end may lie, (N, 2, 2), NaN where it is not known, and (N,) whether
        quantiles say it; else one standard deviation does.
        """
        reach = np.full(self.found.shape, np.nan) if self.std is None else np.where(self.std > 0, self.std, np.nan)
        around = np.stack([self.found - reach, self.found + reach], axis=-1)
        if self.intervals is None:
            return around, np.zeros(len(self.found), dtype=bool)
        known = ~np.isnan(self.intervals).any(axis=(1, 2))
        return np.where(known[:, None, None], self.intervals, around), known

    def classes(self) -> list[int]:
        """The classes that occur here, in order."""
        return sorted({*self.truth_class.tolist(), *self.found_class.tolist()})


def draw_time_bars(path: str | Path, recordings: Sequence[RecordingBars], classes: Sequence[str], caption: str) -> None:
    """One panel per recording, one row per class in it: ground truth above, detections below.

    Detections are the more opaque the higher their score. Lines at their ends reach from the lowest to the highest
    quantile where these are known, else one standard deviation to either side where that is. `classes` names the
    classes by their index.

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
        _add_legend(
            figure,
            points=any(recording.kind == "points" for recording in recordings),
            lines=_lines(recordings),
        )


def _draw_recording(axes: Any, recording: RecordingBars, classes: Sequence[str], colours: Sequence[str]) -> None:
    """One panel."""
    present = recording.classes()
    for row, c in enumerate(present):
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color="#F3F4F6", linewidth=0, zorder=0)
        truth = recording.truth[recording.truth_class == c]
        mine = np.flatnonzero(recording.found_class == c)
        mine = mine[np.argsort(recording.scores[mine], kind="stable")]  # the best on top
        shades = [(colours[c], opacity(score)) for score in recording.scores[mine]]
        if recording.kind == "points":
            _draw_ticks(axes, truth[:, 0], row - 0.21, colours[c], marker="v")
            _draw_ticks(axes, recording.found[mine, 0], row + 0.21, shades)
            continue
        _draw_bars(axes, truth, row - 0.21, [colours[c]], INK)
        _draw_bars(axes, recording.found[mine], row + 0.21, shades, colours[c])
        _draw_whiskers(axes, recording.whiskers()[0][mine], row + 0.21)
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


def _draw_ticks(axes: Any, times: np.ndarray, centre: float, colour: Any, marker: str = "") -> None:
    """A line across the lane at each time, with a marker on top if one is given; `colour` is one, or one per time."""
    if len(times) == 0:
        return
    top, bottom = np.full(len(times), centre - LANE / 2), np.full(len(times), centre + LANE / 2)
    axes.vlines(times, top, bottom, colors=colour, linewidth=1.8, zorder=3)
    if marker:
        axes.plot(times, top + 0.05, marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5, ms=5.5, zorder=4)


def _draw_whiskers(axes: Any, whiskers: np.ndarray, centre: float) -> None:
    """A line from one end to the other of each of (N, 2, 2), starts above ends."""
    for side, height in ((0, centre - LANE / 6), (1, centre + LANE / 6)):
        low, high = whiskers[~np.isnan(whiskers[:, side]).any(axis=1), side].T
        axes.hlines(np.full(len(low), height), low, high, colors=INK, linewidth=0.9, zorder=4)
        for ends in (low, high):
            axes.vlines(ends, height - LANE / 8, height + LANE / 8, colors=INK, linewidth=0.9, zorder=4)


def _lines(recordings: Sequence[RecordingBars]) -> list[str]:
    """What the lines at the ends of the bars mean, of every kind that is drawn."""
    texts = set()
    for recording in recordings:
        whiskers, known = recording.whiskers()
        if known.any() and recording.interval_levels is not None:
            low, high = recording.interval_levels
            texts.add(f"{100 * low:g}% to {100 * high:g}% quantile")
        elif known.any():
            texts.add("lowest to highest quantile")
        if not np.isnan(whiskers[~known]).all():
            texts.add("\u00b1 one standard deviation")
    return sorted(texts)


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


def _add_legend(figure: Any, points: bool, lines: Sequence[str]) -> None:
    """What the two rows, the shades and the lines mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shape = "tick" if points else "bar"
    handles: list[Any] = []
    text = legend_text(f"ground truth (upper {shape})")
    if points:
        handles.append(Line2D([], [], color=FAINT, marker="v", markeredgecolor=INK, markeredgewidth=0.5, label=text))
    else:
        handles.append(Patch(facecolor=FAINT, edgecolor=INK, linewidth=0.6, label=text))
    for score in (1.0, 0.6, 0.2):
        text = f"detection (lower {shape}), score {score:g}" if score == 1.0 else f"score {score:g}"
        shade = (FAINT, opacity(score))
        handles.append(
            Line2D([], [], color=shade, linewidth=1.8, label=text)
            if points
            else Patch(facecolor=shade, edgecolor=FAINT, linewidth=0.6, label=text)
        )
    for text in lines:
        handles.append(Line2D([], [], color=INK, marker="|", linewidth=0.9, label=text))
    columns = len(handles) if len(handles) <= 5 else 3  # more are wider than the picture
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
