"""Ways to get results files, evaluation and plots wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eventide.evaluation.external_scores import read_external_scores
from tests.errors.error_case import ErrorCase, run_cli

GOOD: dict[str, Any] = {"segment": [1.0, 2.0], "label": "jump", "label_id": 0, "score": 0.9}
ANNOTATIONS: dict[str, Any] = {
    "database": {
        "a": {"subset": "validation", "duration": 60.0, "annotations": [{"segment": [1.0, 2.0], "label": "jump"}]},
        "b": {"subset": "negatives", "duration": 60.0, "annotations": []},
    }
}


def write(folder: Path, results: Any, annotations: Any = ANNOTATIONS) -> None:
    """results.json (an object, or its text or bytes) and annotations.json."""
    content = results if isinstance(results, bytes) else (results if isinstance(results, str) else json.dumps(results))
    data = content if isinstance(content, bytes) else content.encode("utf-8")
    (folder / "results.json").write_bytes(data)
    (folder / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")


def scored(
    results: Any, *options: str, annotations: Any = ANNOTATIONS, split: str = "validation", protocol: str = "thumos"
) -> Callable[[Path], object]:
    """Evaluate `results` as a user would; `protocol` is left out where it is empty."""

    def run(folder: Path) -> object:
        write(folder, results, annotations)
        files = ["--predictions", "results.json", "--annotations", "annotations.json", "--split", split]
        return run_cli(["eval", *files, *(["--protocol", protocol] if protocol else []), *options], folder)

    return run


def plotted(*arguments: str) -> Callable[[Path], object]:
    """Plot good results as a user would."""

    def run(folder: Path) -> object:
        write(folder, {"results": {"a": [GOOD]}})
        files = ["--predictions", "results.json", "--annotations", "annotations.json", "--split", "validation"]
        return run_cli(["plot", *files, *arguments], folder)

    return run


def record(**changes: Any) -> dict[str, Any]:
    """Results with one record, changed; a key set to None is left out."""
    return {"results": {"a": [{key: value for key, value in {**GOOD, **changes}.items() if value is not None}]}}


def fused(name: str, content: bytes | dict[str, Any]) -> Callable[[Path], object]:
    """Read external class scores of 2 classes."""

    def run(folder: Path) -> object:
        path = folder / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".npz":
            np.savez(path, **content)
        else:
            path.write_text(json.dumps(content), encoding="utf-8")
        return read_external_scores(path, 2)

    return run


ONLY_IDS = {"database": {"a": {"subset": "validation", "annotations": [{"segment": [1, 2], "label_id": 0}]}}}

CASES = [
    ErrorCase(
        "results: no such file",
        "named a results file that does not exist",
        lambda folder: run_cli(
            ["eval", "--predictions", "none.json", "--annotations", "x", "--split", "y", "--protocol", "thumos"], folder
        ),
        r"none\.json: no such results file",
        2,
    ),
    ErrorCase(
        "results: empty file", "gave an empty results file", scored(""), "results.json: the results file is empty", 1
    ),
    ErrorCase(
        "results: cut off",
        "gave a results file that was cut off while it was copied",
        scored('{"results": {"a": [{"segment": [1.0, 2.0'),
        r"not valid JSON: .* at line 1, column \d+",
        1,
    ),
    ErrorCase(
        "results: not UTF-8",
        "gave a results file in another encoding",
        scored('{"results": {"é": []}}'.encode("latin-1")),
        "is not UTF-8 text",
        1,
    ),
    ErrorCase(
        "results: recording twice",
        "joined two results files by hand, so that a recording occurs twice",
        scored('{"results": {"a": [], "a": []}}'),
        "has the key 'a' 2 times",
        1,
    ),
    ErrorCase(
        "results: NaN score",
        "gave a results file with a score that is NaN",
        scored('{"results": {"a": [{"segment": [1.0, 2.0], "label": "jump", "score": NaN}]}}'),
        "holds NaN",
        1,
    ),
    ErrorCase(
        "results: annotations instead",
        "gave the annotation file as `--predictions`",
        scored(ANNOTATIONS),
        "holds annotations .*, not results; swap the two files",
        1,
    ),
    ErrorCase(
        "results: a list", "gave a results file that is a list of detections", scored([GOOD]), "has no such map", 1
    ),
    ErrorCase(
        "results: no score", "left out a score", scored(record(score=None)), r'results\["a"\]\[0\]: score is missing', 1
    ),
    ErrorCase(
        "results: score as text",
        "wrote a score as text",
        scored(record(score="0.9")),
        'score is "0.9"; a finite number is needed',
        1,
    ),
    ErrorCase(
        "results: segment backwards",
        "swapped start and end of a detection",
        scored(record(segment=[2.0, 1.0])),
        r"segment \[2.0, 1.0\] ends before it starts",
        1,
    ),
    ErrorCase(
        "results: segment of three",
        "gave a segment with three numbers",
        scored(record(segment=[1.0, 2.0, 3.0])),
        r"\[start, end\] in seconds is needed",
        1,
    ),
    ErrorCase(
        "results: no class",
        "left out both label and label_id",
        scored(record(label=None, label_id=None)),
        "neither label",
        1,
    ),
    ErrorCase(
        "results: negative label id",
        "gave the label id -1",
        scored(record(label_id=-1)),
        "label_id is -1; a whole number",
        1,
    ),
    ErrorCase(
        "results: several problems",
        "gave a results file with several mistakes",
        scored({"results": {"a": [{**GOOD, "score": None}, {**GOOD, "segment": "1-2"}], "b": {}}}),
        r"3 problems\n.*score is missing\n.*segment is \"1-2\".*\n.*a list of detections is needed",
        1,
    ),
    ErrorCase(
        "evaluation: labels against ids",
        "gave results with labels only and annotations with label ids only",
        scored(record(label_id=None), annotations=ONLY_IDS),
        "the predictions name their classes by label, the ground truth by label_id",
        1,
    ),
    ErrorCase(
        "evaluation: unknown split",
        "asked for a split that the annotations do not have",
        scored(record(), split="test"),
        "no recordings in subset 'test'; subsets in the file: 'validation'",
        1,
    ),
    ErrorCase(
        "evaluation: split without events",
        "evaluated on a split whose recordings have no events",
        scored(record(), split="negatives"),
        "have no events: there is nothing to score against",
        1,
    ),
    ErrorCase(
        "evaluation: neither protocol nor thresholds",
        "gave neither `--protocol` nor `--tiou`",
        scored(record(), protocol=""),
        "give exactly one of --protocol",
        2,
    ),
    ErrorCase(
        "evaluation: protocol and thresholds",
        "gave both `--protocol` and `--tiou`",
        scored(record(), "--tiou", "0.5"),
        "give exactly one of --protocol",
        2,
    ),
    ErrorCase(
        "evaluation: threshold in percent",
        "gave a tIoU threshold in percent",
        scored(record(), "--tiou", "50", protocol=""),
        "--tiou 50 is no overlap",
        2,
    ),
    ErrorCase(
        "evaluation: unknown protocol",
        "misspelt the protocol",
        scored(record(), protocol="thumos14"),
        "thumos14.*thumos.*activitynet",
        2,
    ),
    ErrorCase(
        "external scores: too few classes",
        "gave external scores of another number of classes",
        fused("scores.json", {"a": [0.1, 0.2, 0.7]}),
        "3 scores, but there are 2 classes",
        1,
    ),
    ErrorCase(
        "external scores: pickle",
        "gave external scores as a pickle file",
        fused("scores.pkl", b"\x80\x04."),
        r"read from \.json or \.npz",
        2,
    ),
    ErrorCase(
        "external scores: objects",
        "gave external scores as an .npz file of Python objects",
        fused("scores.npz", {"a": np.array([None, None], dtype=object)}),
        "it holds Python objects",
        1,
    ),
    ErrorCase(
        "plot: unknown picture format",
        "asked for a plot in a format that is none",
        plotted("--output", "plot.bmp"),
        r"plot\.bmp: a picture ends in \.png, \.svg or \.pdf",
        2,
    ),
    ErrorCase(
        "plot: unknown recording",
        "asked to plot a recording that is not in the split",
        plotted("--output", "plot.png", "--recording", "b"),
        "--recording b: annotations.json has no such recording in split validation",
        2,
    ),
    ErrorCase(
        "plot: a folder as output",
        "gave a folder as `--output` of a plot",
        lambda folder: ((folder / "out.png").mkdir(), plotted("--output", "out.png")(folder)),
        r"out\.png is a folder; give the path of a file",
        2,
    ),
]
