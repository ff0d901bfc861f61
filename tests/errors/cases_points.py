"""Ways to get point events wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventide.data.dataset import EventDataset
from tests.data.making import make_data, point_record, with_points, write_config
from tests.errors.cases_annotations import event
from tests.errors.cases_config import case
from tests.errors.error_case import ErrorCase, run_cli


def click(time: Any, **other: Any) -> dict[str, Any]:
    return {"time": time, "label": "click", **other}


def data_of(folder: Path) -> Path:
    """A configuration for segments, and data with point events only."""
    make_data(
        folder, {"v1": point_record((1, "clap"), (2, "jump")), "v2": point_record((3, "clap"), subset="validation")}
    )
    return write_config(folder / "config.yaml", folder)


def checked(*overrides: str) -> Callable[[Path], object]:
    """`eventide check` of that data."""
    return lambda folder: run_cli(["check", data_of(folder), "--set", "dataset.missing=skip", *overrides], folder)


def trained_with_unknown_width(folder: Path) -> object:
    config = with_points(make_data(folder, {"v1": point_record((1, "clap"), (2, "jump"))}), width={"clapp": 0.1})
    return EventDataset(config, ["training"], training=True)


CASES = [
    ErrorCase(
        "points: time and segment",
        "gave an event both a `time` and a `segment`",
        event(click(3, segment=[3, 4])),
        'has both "time" and "segment"; keep "time" for a point event',
        1,
    ),
    ErrorCase("points: text", "put a time in quotes", event(click("3")), '"time" must be a finite number', 1),
    ErrorCase("points: negative", "gave a time before 0", event(click(-2)), "lies before the recording, at -2 s", 1),
    ErrorCase(
        "points: outside",
        "gave a time after the end of its recording",
        event(click(70)),
        r"the time \(70 s\) is after the recording, which lasts 60 s",
        1,
    ),
    ErrorCase(
        "points: learnt as segments",
        "learnt segments from a file of point events",
        checked(),
        "all 3 events are point events.*set model.meta_arch: SnapFormer",
        1,
    ),
    ErrorCase(
        "points: width of an unknown label",
        "gave the target width of a label that the annotations lack",
        trained_with_unknown_width,
        r"model.heatmap.width: 'clapp' \(did you mean 'clap'\?\) is not among the labels",
        1,
    ),
    case(
        "points: another architecture",
        "asked for points of an architecture that finds segments",
        "dataset: {events: points}",
        "is points but model.meta_arch LocPointTransformer finds segments",
    ),
    case(
        "points: segments of SnapFormer",
        "asked for segments of SnapFormer",
        "model: {meta_arch: SnapFormer}\ndataset: {events: segments}",
        "is segments but model.meta_arch SnapFormer finds points",
    ),
    case(
        "points: position without points",
        "said where a segment is a point, of an architecture that finds segments",
        "dataset: {point_position: start}",
        r"c\.yaml:1: dataset\.point_position: .*finds segments; leave it out",
    ),
    case(
        "points: heatmap of another architecture",
        "gave a target width without SnapFormer",
        "model: {heatmap: {width: 0.2}}",
        r"width: belongs to model\.meta_arch SnapFormer, not to LocPointTransformer",
    ),
    case(
        "points: width 0",
        "gave a target width of 0",
        "model: {meta_arch: SnapFormer, heatmap: {width: 0}}",
        "must be a number, greater than 0 or a mapping of labels",
    ),
    case(
        "points: tolerances",
        "gave tolerances that do not rise",
        "model: {meta_arch: SnapFormer}\ntolerances: [1.0, 0.5]",
        "must be rising numbers of seconds, all above 0",
    ),
]
