"""Ways to get a recommendation wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.making import plain_database, record, write_features, write_json
from tests.errors.error_case import ErrorCase, run_cli

FLAGS = ("--events", "segments", "--labels", "clean", "--length", "short", "--gpus", "0")
FILES = ("--annotations", "a.json", "--features", "features")


def recommended(*options: str, before: Callable[[Path], object] | None = None) -> Callable[[Path], object]:
    """Do what is to happen `before`, then `eventide recommend OPTIONS`."""

    def run(folder: Path) -> object:
        if before:
            before(folder)
        return run_cli(["recommend", *options], folder)

    return run


def _data(folder: Path, database: dict[str, Any] | None = None) -> None:
    database = plain_database() if database is None else database
    write_json(folder / "a.json", database)
    write_features(folder / "features", dict.fromkeys(database, 119))


def _points(folder: Path) -> None:
    _data(folder, {"r": record() | {"annotations": [{"time": 3.0, "label": "a"}]}})


def _no_events(folder: Path) -> None:
    _data(folder, {"r": record(), "v": record((1, 2, "a"), subset="validation")})


def _strangers(folder: Path) -> None:
    _data(folder)
    write_json(folder / "b.json", {"other": record((1, 2, "clap"))})


def _two_folders(folder: Path) -> None:
    _data(folder)
    (folder / "more").mkdir()
    np.save(folder / "more" / "v_rec0.npy", np.zeros((119, 2)))


CASES: list[ErrorCase] = [
    ErrorCase(
        "recommend from nothing",
        "asked for a recommendation without saying anything, not on a terminal",
        recommended(),
        r"not enough to go by: add --events segments\|points, --labels clean\|noisy, --length short\|long\|VECTORS; or",
        2,
    ),
    ErrorCase(
        "recommend without length",
        "gave annotations and no features, so that lengths in vectors are unknown",
        recommended("--annotations", "a.json", before=_data),
        r"add --length short\|long\|VECTORS \(or --features DIR, or --feat-stride FRAMES\)",
        2,
    ),
    ErrorCase(
        "recommend over a file",
        "named a file that exists as the output of a recommendation",
        recommended(
            *FLAGS, "--output", "mine.yaml", before=lambda folder: (folder / "mine.yaml").write_text("seed: 1")
        ),
        r"mine\.yaml exists already; give another name, or --force to overwrite it",
        2,
    ),
    ErrorCase(
        "recommend to a folder",
        "named a folder as the output of a recommendation",
        recommended(*FLAGS, "--output", ".", "--force"),
        r"is a folder; give the path of a file to write",
        2,
    ),
    ErrorCase(
        "recommend length",
        "gave a length that is none",
        recommended("--events", "points", "--length", "-5"),
        r"--length -5: give short, long, or a number of feature vectors from 1",
        2,
    ),
    ErrorCase(
        "recommend stride", "gave a stride of no frames", recommended("--feat-stride", "0"), r"--feat-stride 0: give", 2
    ),
    ErrorCase("recommend gpus", "gave less than no GPUs", recommended("--gpus", "-1"), r"--gpus -1: give 0 or more", 2),
    ErrorCase(
        "recommend goals",
        "asked for a prototype of the best quality",
        recommended(*FLAGS, "--goal", "prototype", "quality"),
        r"--goal prototype .* does not go with quality",
        2,
    ),
    ErrorCase(
        "recommend kind",
        "misspelt the kind of events",
        recommended("--events", "clicks"),
        r'Invalid value "clicks" for --events',
        2,
    ),
    ErrorCase(
        "recommend without annotations",
        "gave features to a recommendation without annotations",
        recommended("--features", "features", before=_data),
        r"--features need\(s\) --annotations FILE, which names the recordings",
        2,
    ),
    ErrorCase(
        "recommend annotations missing",
        "named annotations that are not there",
        recommended("--annotations", "a.json"),
        r"a\.json: no such annotation file",
        2,
    ),
    ErrorCase(
        "recommend features missing",
        "named a folder of features that is not there",
        recommended("--annotations", "a.json", "--features", "nowhere", before=_data),
        r"--features nowhere: does not exist",
        2,
    ),
    ErrorCase(
        "recommend other features",
        "named a folder with the features of other recordings",
        recommended(*FILES, "--split", "validation", before=lambda folder: (_data(folder), _rename(folder))),
        r"--features features: \d file\(s\) such as x0\.npy, none of them for a training recording such as 'val0'",
        1,
    ),
    ErrorCase(
        "recommend unlike folders",
        "named feature folders whose files have different names",
        recommended(*FILES, "more", before=_two_folders),
        r"files are named ID\.npy in features, but v_ID\.npy in more; name them alike",
        1,
    ),
    ErrorCase(
        "recommend no events",
        "asked for a recommendation from a subset without events",
        recommended(*FILES, before=_no_events),
        r"a\.json: no events in subset training.*\(--split\)",
        1,
    ),
    ErrorCase(
        "recommend segments of points",
        "insisted on segments where all events are points",
        recommended(*FILES, "--events", "segments", before=_points),
        r"--events segments: all 1 training events in a\.json are points \(`time`\)",
        2,
    ),
    ErrorCase(
        "recommend classes",
        "gave fewer classes than the annotations have",
        recommended(
            *FILES,
            "--classes",
            "2",
            before=lambda folder: _data(folder, {"r": record((1, 2, "a"), (3, 4, "b"), (5, 6, "c"))}),
        ),
        r"--classes 2: a\.json has 3; give as many or more, or 1 to find events of any class",
        2,
    ),
    ErrorCase(
        "recommend second annotator",
        "gave a second annotation of other recordings",
        recommended(*FILES, "--second-annotator", "b.json", before=_strangers),
        r"b\.json: has no recording of a\.json",
        1,
    ),
]


def _rename(folder: Path) -> None:
    for number, path in enumerate(sorted((folder / "features").iterdir())):
        path.rename(path.with_name(f"x{number}.npy"))
