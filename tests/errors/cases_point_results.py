"""Ways to get results of point events, and their evaluation and plots, wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.errors.error_case import ErrorCase, run_cli

POINT: dict[str, Any] = {"time": 3.5, "label": "snap", "score": 0.9}
SEGMENT: dict[str, Any] = {"segment": [1.0, 2.0], "label": "snap", "score": 0.9}
ANNOTATIONS: dict[str, Any] = {
    "database": {
        "a": {"subset": "validation", "duration": 60.0, "fps": 25, "annotations": [{"time": 3.5, "label": "snap"}]},
        "b": {"subset": "validation", "duration": 60.0, "annotations": []},
        "c": {"subset": "segments", "duration": 60.0, "annotations": [{"segment": [1.0, 2.0], "label": "snap"}]},
    }
}


def command(
    name: str, records: list[dict[str, Any]], *options: str, split: str = "validation"
) -> Callable[[Path], object]:
    """`eventide NAME` with results of recording a."""

    def run(folder: Path) -> object:
        (folder / "results.json").write_text(json.dumps({"results": {"a": records}}), encoding="utf-8")
        (folder / "annotations.json").write_text(json.dumps(ANNOTATIONS), encoding="utf-8")
        files = ["--predictions", "results.json", "--annotations", "annotations.json", "--split", split]
        return run_cli([name, *files, *options], folder)

    return run


def scored(records: list[dict[str, Any]], *options: str, split: str = "validation") -> Callable[[Path], object]:
    return command("eval", records, *options, split=split)


CASES = [
    ErrorCase(
        "point results: both kinds in one file",
        "gave a results file with segments and point events",
        scored([POINT, SEGMENT]),
        r'results\["a"\]\[1\]: a segment, but results\["a"\]\[0\] is a point event; write one file for each',
        1,
    ),
    ErrorCase(
        "point results: segment and time",
        "gave a detection both a `segment` and a `time`",
        scored([{**POINT, **SEGMENT}]),
        "both segment and time are given",
        1,
    ),
    ErrorCase(
        "point results: time as text",
        "wrote the time of a detection as text",
        scored([{**POINT, "time": "3.5"}]),
        'time is "3.5"; a number of seconds is needed',
        1,
    ),
    ErrorCase(
        "point results: deviation",
        "gave a `segment_std` that is one number",
        scored([{**SEGMENT, "segment_std": 0.5}], "--tiou", "0.5"),
        r"segment_std is 0.5; of a segment, \[start, end\] from 0 in seconds is needed",
        1,
    ),
    ErrorCase(
        "point results: quantiles",
        "gave `quantiles` with words for levels",
        scored([{**SEGMENT, "quantiles": {"low": [1, 2]}}], "--tiou", "0.5"),
        r'quantiles is \{"low": .*; \{"0.1": \[start, end\], ...\} in seconds, rising by level, is needed',
        1,
    ),
    ErrorCase(
        "point evaluation: points with tIoU",
        "scored point events with `--tiou`",
        scored([POINT], "--tiou", "0.5"),
        "holds point events .* --tiou scores segments; point events are scored with --tolerance",
        2,
    ),
    ErrorCase(
        "point evaluation: segments with a tolerance",
        "scored segments with `--tolerance`",
        scored([SEGMENT], "--tolerance", "0.5"),
        "holds segments .* --tolerance scores point events; segments are scored with --tiou",
        2,
    ),
    ErrorCase(
        "point evaluation: segments as SoccerNet",
        "scored segments with a protocol for points",
        scored([SEGMENT], "--protocol", "soccernet-tight"),
        "--protocol soccernet-tight scores point events",
        2,
    ),
    ErrorCase(
        "point evaluation: two ways at once",
        "gave both `--tolerance` and `--tolerance-frames`",
        scored([POINT], "--tolerance", "0.5", "--tolerance-frames", "1"),
        "--tolerance and --tolerance-frames are different ways to score; give one",
        2,
    ),
    ErrorCase(
        "point evaluation: negative tolerance",
        "gave a negative tolerance",
        scored([POINT], "--tolerance=-1"),
        "--tolerance -1 is no tolerance; give seconds from 0 on",
        2,
    ),
    ErrorCase(
        "point evaluation: no frame rate",
        "gave tolerances in frames where annotations have no `fps`",
        scored([POINT], "--tolerance-frames", "0", "1"),
        r"1 of 2 recording\(s\) have no \"fps\" \('b'\), .* give --fps",
        1,
    ),
    ErrorCase(
        "point evaluation: frame rate of 0",
        "gave the frame rate 0",
        scored([POINT], "--tolerance-frames", "1", "--fps", "0"),
        "--fps 0 is no frame rate",
        2,
    ),
    ErrorCase(
        "point evaluation: frame rate and seconds",
        "gave `--fps` with tolerances in seconds",
        scored([POINT], "--tolerance", "1", "--fps", "25"),
        "--fps is for tolerances in frames",
        2,
    ),
    ErrorCase(
        "point evaluation: position of segments",
        "gave `--point-position` while scoring segments",
        scored([SEGMENT], "--tiou", "0.5", "--point-position", "start", split="segments"),
        "--point-position says where points lie, and segments are scored here",
        2,
    ),
    ErrorCase(
        "point evaluation: only points annotated",
        "scored segments in a split that has only point events",
        scored([SEGMENT], "--tiou", "0.5"),
        r"have no segments: .* they have 1 point event\(s\)",
        1,
    ),
    ErrorCase(
        "point plot: tIoU",
        "plotted point events with `--tiou`",
        command("plot", [POINT], "--output", "plot.png", "--tiou", "0.5"),
        "holds point events, and --tiou is for segments; give --tolerance",
        2,
    ),
    ErrorCase(
        "point plot: tolerance of segments",
        "plotted segments with `--tolerance`",
        command("plot", [SEGMENT], "--output", "plot.png", "--tolerance", "0.5"),
        "holds segments, and --tolerance is for point events; give --tiou",
        2,
    ),
]
