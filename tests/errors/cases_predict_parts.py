"""Ways to go wrong with predictions that were interrupted: other settings, a folder in the way, several processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np

from eventide.engine.inference import Inference
from eventide.engine.model_file import load_model, save_model
from eventide.types import Batch, Detections
from tests.engine.making import write_data
from tests.errors.cases_checkpoints import model_file
from tests.errors.error_case import CommandLineError, ErrorCase, run_cli

WORDS = ["predict", "--checkpoint", "model.safetensors", "--features", "data/features", "--output", "r.json"]
TWO_PROCESSES = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}


def predict(folder: Path, *words: str) -> str:
    return run_cli([*WORDS, "--fps", "10", "--device", "cpu", *words], folder)


def with_broken(folder: Path) -> str:
    """Predict a folder where the shortest recording, the last one to be predicted, holds NaN."""
    write_data(folder)
    model_file(folder)
    shortest = min((folder / "data" / "features").iterdir(), key=lambda path: len(np.load(path)))
    rows = np.load(shortest)
    rows[3, 2] = np.nan
    np.save(shortest, rows)
    return predict(folder)


def interrupted(folder: Path) -> None:
    """Leave r.json.parts with most recordings finished."""
    try:
        with_broken(folder)
    except CommandLineError:
        return
    raise RuntimeError("a broken recording was predicted")


def then(*words: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], object]:
    """Go on with other words, or after a `change`."""

    def run(folder: Path) -> object:
        interrupted(folder)
        change(folder)
        return predict(folder, *words)

    return run


def other_weights(folder: Path) -> None:
    model = load_model(folder / "model.safetensors")
    name = next(iter(model.tensors))
    model.tensors[name] = model.tensors[name] + 1
    save_model(folder / "model.safetensors", model)


def in_the_way(folder: Path) -> object:
    write_data(folder)
    model_file(folder)
    (folder / "r.json.parts").mkdir()
    (folder / "r.json.parts" / "notes.txt").write_text("mine")
    return predict(folder)


def without_memory(folder: Path) -> object:
    """The second batch does not fit."""
    write_data(folder)
    model_file(folder)
    detect, calls = Inference.detect, count()

    def detect_once(self: Inference, batch: Batch) -> list[Detections]:
        if next(calls):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return detect(self, batch)

    with patch.object(Inference, "detect", detect_once):
        return predict(folder, "--batch-size", "2")


def two_on_one_device(folder: Path) -> object:
    write_data(folder)
    model_file(folder)
    with patch.dict(os.environ, TWO_PROCESSES):
        return run_cli([*WORDS, "--fps", "10", "--device", "cuda:1"], folder)


CASES: list[ErrorCase] = [
    ErrorCase(
        "predict, broken recording",
        "predicted a folder in which one recording is broken",
        with_broken,
        r"values are NaN or Inf.*; 7 of 8 recordings are finished, the same command goes on from there",
        1,
    ),
    ErrorCase(
        "predict, out of memory",
        "predicted recordings that do not fit into memory",
        without_memory,
        r"out of memory in prediction with 2 rec.*--batch-size.*test_cfg\.chunk.*; 2 of 8 recordings are finished",
        1,
    ),
    ErrorCase(
        "predict, other options",
        "went on with another `--min-score` after an interruption",
        then("--min-score", "0.3"),
        r"r\.json\.parts holds recordings that were finished with other settings: min_score was None and is now 0\.3;",
        2,
    ),
    ErrorCase(
        "predict, other post-processing",
        "went on with another `test_cfg` after an interruption",
        then("--set", "test_cfg.max_seg_num=3"),
        r"other settings: test_cfg\.max_seg_num was 200 and is now 3; go on with the same settings, or use --force",
        2,
    ),
    ErrorCase(
        "predict, other weights",
        "went on with another model after an interruption",
        then(change=other_weights),
        r"other settings: the content of the checkpoint is another; go on",
        2,
    ),
    ErrorCase(
        "predict, damaged settings",
        "went on after `settings.json` in the parts was damaged",
        then(change=lambda folder: (folder / "r.json.parts" / "settings.json").write_text("{")),
        r"settings\.json is damaged; remove the folder to begin anew",
        1,
    ),
    ErrorCase(
        "predict, folder in the way",
        "predicted where `OUTPUT.parts` is a folder of something else",
        in_the_way,
        r"r\.json\.parts holds something else; finished recordings are kept there: remove it",
        2,
    ),
    ErrorCase(
        "predict, one device for all",
        "started several processes on one single CUDA device",
        two_on_one_device,
        r"--device cuda:1 with 2 processes: give --device cuda, each takes one of its own",
        2,
    ),
]
