"""Point events of a data set: which annotated events they are, where they lie, how wide their targets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from eventide.config import Config
from eventide.config_labels import label_problem
from eventide.ops.segments import point_times, unique_points
from eventide.types import Recording

Width = float | dict[str, float] | str | None  # model.heatmap.width


def without_points(recording: Recording) -> Recording:
    """The recording without the events that are annotated as points."""
    if recording.is_point is None:
        return recording
    kept = ~recording.is_point
    return replace(recording, segments=recording.segments[kept], label_ids=recording.label_ids[kept], is_point=None)


def as_points(recording: Recording, position: str) -> Recording:
    """The recording with every event as a point, a segment at its `position` (start, centre or end); no repeats."""
    times = point_times(recording.segments, position)
    kept = unique_points(times, recording.label_ids)
    segments = np.repeat(times[kept, None], 2, axis=1)
    is_point = np.ones(len(segments), dtype=np.bool_)
    return replace(recording, segments=segments, label_ids=recording.label_ids[kept], is_point=is_point)


def target_ranges(
    recording: Recording, position: str, width: Width, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """What SnapFormer learns of a recording: (G, 2) float64, the time of each event less and plus the width of its
    target, in seconds, and (G,) label ids; no repeats.

    `labels` are those of the label ids. An event whose width is not given has width 0.
    """
    times = point_times(recording.segments, position)
    kept = unique_points(times, recording.label_ids)
    widths = _widths(recording, width, labels)
    return np.stack((times - widths, times + widths), axis=1)[kept], recording.label_ids[kept]


def _widths(recording: Recording, width: Width, labels: Sequence[str]) -> np.ndarray:
    """Widths of the targets of all events in seconds, (G,) float64."""
    if width == "duration":
        return 0.5 * (recording.segments[:, 1] - recording.segments[:, 0])
    if isinstance(width, dict):
        return np.array([width.get(label, 0.0) for label in labels], dtype=np.float64)[recording.label_ids]
    return np.full(len(recording.label_ids), width or 0.0)


def width_problem(width: Width, labels: Sequence[str]) -> str:
    """What to say about labels of `model.heatmap.width` that the annotations lack; empty when there are none."""
    return label_problem("model.heatmap.width", width, labels) if isinstance(width, dict) else ""


def kind_findings(recordings: Sequence[Recording], config: Config) -> tuple[str, str]:
    """A problem and a warning, either may be empty, about point events where a resolved `config` learns segments."""
    if config.dataset.events == "points":
        return "", ""
    points = {r.id: int(r.is_point.sum()) for r in recordings if r.is_point is not None}
    total, events = sum(points.values()), sum(len(recording.label_ids) for recording in recordings)
    architecture = config.model.meta_arch
    if not total:
        return "", ""
    if total == events:
        return (
            f'all {total} events are point events ("time"), but model.meta_arch {architecture} learns segments; '
            "set model.meta_arch: SnapFormer (dataset.events: points)"
        ), ""
    return "", (
        f'{total} of {events} events are point events ("time") and are left out, since model.meta_arch {architecture} '
        f"learns segments; first in recording {next(iter(points))!r}"
    )
