"""Ways to get annotation files wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventide.data.annotations import load_annotations
from eventide.data.dataset import EventDataset
from tests.data.making import make_data, plain_database, record, write_config, write_json
from tests.errors.error_case import ErrorCase, run_cli


def file_of(content: bytes) -> Callable[[Path], object]:
    """Read an annotation file with this content."""

    def run(folder: Path) -> object:
        (folder / "annotations.json").write_bytes(content)
        return load_annotations(folder / "annotations.json")

    return run


def database(**recordings: Any) -> Callable[[Path], object]:
    """Read an annotation file with these recordings."""
    return lambda folder: load_annotations(write_json(folder / "annotations.json", recordings))


def event(*annotations: Any, **changes: Any) -> Callable[[Path], object]:
    """Read a file with one recording of 60 s, v1, and these annotations; `changes` are other keys of the recording."""
    return database(v1={"subset": "training", "duration": 60.0, "fps": 30, "annotations": list(annotations), **changes})


def clap(start: Any, end: Any, **other: Any) -> dict[str, Any]:
    return {"segment": [start, end], "label": "clap", **other}


def trained_on(subset: str) -> Callable[[Path], object]:
    """Use a subset of a good data set."""
    return lambda folder: EventDataset(make_data(folder), [subset], training=True)


def no_rate(folder: Path) -> object:
    config = make_data(folder, {"v1": record((1, 2, "clap"), fps=None)})
    return EventDataset(config, ["training"], training=True)


def too_many_classes(folder: Path) -> object:
    config = make_data(folder, {"v1": record((1, 2, "clap"), (3, 4, "jump"), (5, 6, "run"))})
    return EventDataset(config, ["training"], training=True)


def several(folder: Path) -> object:
    make_data(folder, plain_database() | {"rec1": record((5, 3, "clap"), (70, 80, "clap"), duration="60")})
    return run_cli(["check", write_config(folder / "config.yaml", folder)], folder)


CASES = [
    ErrorCase(
        "annotations: no file",
        "named an annotation file that does not exist",
        lambda folder: load_annotations(folder / "annotations.json"),
        "no such annotation file",
        2,
    ),
    ErrorCase(
        "annotations: a folder",
        "named a folder as the annotation file",
        load_annotations,
        "is a folder; give the path",
        2,
    ),
    ErrorCase("annotations: empty file", "gave an empty annotation file", file_of(b""), "file is empty", 1),
    ErrorCase(
        "annotations: cut off", "cut the annotation file off", file_of(b'{"database": {'), "not valid JSON: .*line 1", 1
    ),
    ErrorCase(
        "annotations: not UTF-8",
        "saved the annotations as UTF-16",
        file_of("{}".encode("utf-16")),
        "is not UTF-8 text",
        1,
    ),
    ErrorCase(
        "annotations: nested too deeply",
        "gave JSON with 100,000 brackets within one another",
        file_of(b"[" * 100_000),
        "nested too deeply",
        1,
    ),
    ErrorCase(
        "annotations: results file",
        "gave a results file as annotations",
        file_of(b'{"results": {}}'),
        'expected a JSON object with an object "database".*a results file',
        1,
    ),
    ErrorCase(
        "annotations: recording twice",
        "listed a recording twice",
        file_of(b'{"database": {"v1": {"subset": "training"}, "v1": {"subset": "training"}}}'),
        "has the key 'v1' 2 times",
        1,
    ),
    ErrorCase(
        "annotations: reversed", "gave a segment that ends before it starts", event(clap(5, 3)), "before it starts", 1
    ),
    ErrorCase(
        "annotations: negative start",
        "gave a segment that starts before the recording",
        event(clap(-2, 3)),
        "starts before the recording, at -2 s",
        1,
    ),
    ErrorCase(
        "annotations: outside",
        "gave a segment after the end of its recording",
        event(clap(1, 2), clap(70, 80)),
        r"annotations\[1\]: the segment \(70 to 80 s\) lies outside",
        1,
    ),
    ErrorCase(
        "annotations: NaN", "gave NaN as a time", event(clap(float("nan"), 3)), r"two finite numbers .* \[NaN, 3\]", 1
    ),
    ErrorCase("annotations: times as text", "put times in quotes", event(clap("1.5", "3")), r'got \["1.5", "3"\]', 1),
    ErrorCase("annotations: no label", "left out the label", event({"segment": [1, 2]}), 'neither "label" nor', 1),
    ErrorCase(
        "annotations: contradictory ids",
        "gave one label two ids",
        event(clap(1, 2, label_id=0), clap(3, 4, label_id=1)),
        "label 'clap' has label_id 1, but 0 elsewhere",
        1,
    ),
    ErrorCase(
        "annotations: one id, two labels",
        "gave two labels one id",
        event(clap(1, 2, label_id=0), {"segment": [3, 4], "label": "jump", "label_id": 0}),
        "label_id 0 stands for 'jump', but for 'clap'",
        1,
    ),
    ErrorCase(
        "annotations: ids for some labels",
        "gave ids to some labels only",
        event(clap(1, 2, label_id=0), {"segment": [3, 4], "label": "jump"}),
        "label 'jump' has no label_id, while other labels have",
        1,
    ),
    ErrorCase(
        "annotations: no subset", "left out the subset of a recording", database(v1={}), '"subset" must be text', 1
    ),
    ErrorCase(
        "annotations: bad rate", "gave 0 frames per second", event(fps=0), '"fps" must be a positive number, got 0', 1
    ),
    ErrorCase("annotations: no rate", "gave no frame rate anywhere", no_rate, 'no "fps" .*dataset.default_fps', 1),
    ErrorCase(
        "annotations: unknown subset",
        "trained on a subset that has no recordings",
        trained_on("trainning"),
        r"no recordings in subset 'trainning'.*did you mean 'training'\?",
        1,
    ),
    ErrorCase(
        "annotations: more classes than configured",
        "set fewer classes than the annotations have",
        too_many_classes,
        "dataset.num_classes is 2: no class for run",
        1,
    ),
    ErrorCase(
        "annotations: several problems",
        "made several mistakes (`eventide check`)",
        several,
        r'(?s)"duration" must be.*ends \(3 s\) before',
        1,
    ),
]
