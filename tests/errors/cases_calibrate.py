"""Ways to calibrate wrongly: the wrong file, a model that holds a calibration, a split or options that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from eventide.engine.checkpoint import list_checkpoints
from eventide.engine.model_file import load_model, replace_config
from tests.engine.making import tiny_config, write_config, write_data
from tests.errors.cases_checkpoints import in_run, model_file
from tests.errors.error_case import ErrorCase, run_cli


def calibrate(folder: Path, *words: object, checkpoint: object = "model.safetensors") -> str:
    """Calibrate an untrained tiny model, or what is at `checkpoint`, on the tiny data."""
    if not (folder / "data").exists():
        write_data(folder)
    if not (folder / "model.safetensors").exists():
        model_file(folder)
    config = tiny_config(folder)
    split = [] if "--split" in words else ["--split", "validation"]
    named = ["calibrate", "--checkpoint", str(checkpoint), "--config", write_config(folder, config), *split]
    return run_cli([*named, *map(str, words)], folder)


def with_words(*words: object) -> Callable[[Path], object]:
    return lambda folder: calibrate(folder, *words)


def of_checkpoint(folder: Path) -> object:
    run = in_run(folder)
    return calibrate(folder, checkpoint=list_checkpoints(run / "checkpoints")[0])


def of_run_without_model(folder: Path) -> object:
    run = in_run(folder)
    (run / "best.safetensors").unlink()
    return calibrate(folder, checkpoint=run)


def of_calibrated(folder: Path) -> object:
    path = model_file(folder)
    config = load_model(path).config
    replace_config(path, config.model_copy(update={"test_cfg": config.test_cfg.model_copy(update=HELD)}), {})
    return calibrate(folder)


def without_events(folder: Path) -> object:
    write_data(folder)
    path = folder / "data" / "annotations.json"
    document = json.loads(path.read_text())
    for record in document["database"].values():
        record["annotations"] = [] if record["subset"] == "validation" else record["annotations"]
    path.write_text(json.dumps(document))
    return calibrate(folder)


def with_external_scores(folder: Path) -> object:
    write_data(folder)
    model_file(folder)
    config = tiny_config(folder, test_cfg={"ext_score_file": "scores.json"})
    words = ["--checkpoint", "model.safetensors", "--config", write_config(folder, config), "--split", "validation"]
    return run_cli(["calibrate", *words], folder)


HELD = {"score_temperature": 1.5, "class_threshold": {"clap": 0.4, "jump": 0.3}}
CASES: list[ErrorCase] = [
    ErrorCase(
        "calibrate, checkpoint",
        "calibrated a training checkpoint",
        of_checkpoint,
        r"step_\d+\.pt: a calibration is stored in a model file.*give best\.safetensors",
        2,
    ),
    ErrorCase(
        "calibrate, run without model",
        "calibrated a run that has no best model yet",
        of_run_without_model,
        r"has no best\.safetensors; give the model file",
        2,
    ),
    ErrorCase(
        "calibrate, no model",
        "calibrated a model that is not there",
        lambda folder: calibrate(folder, checkpoint="other.safetensors"),
        r"there is no model at other\.safetensors",
        2,
    ),
    ErrorCase(
        "calibrate, twice",
        "calibrated a model that is calibrated already",
        of_calibrated,
        r"holds a calibration already \(test_cfg\.score_temperature, test_cfg\.class_threshold\); --force",
        1,
    ),
    ErrorCase(
        "calibrate, untrained",
        "calibrated a model that finds nothing right",
        with_words("--tiou", "1"),
        r"no detection finds an event: there is nothing to calibrate on",
        1,
    ),
    ErrorCase(
        "calibrate, no events", "calibrated on a split without events", without_events, r"split 'validation' h", 1
    ),
    ErrorCase(
        "calibrate, no split",
        "calibrated on a split that is not there",
        with_words("--split", "validaton"),
        r"no recordings in subset 'validaton'.*did you mean 'validation'",
        1,
    ),
    ErrorCase(
        "calibrate, external scores",
        "calibrated with class scores of another model",
        with_external_scores,
        r"test_cfg\.ext_score_file: the scores of this model itself are calibrated",
        2,
    ),
    ErrorCase(
        "calibrate, tolerance",
        "calibrated a model of segments with a tolerance",
        with_words("--tolerance", "1"),
        r"--tolerance: this model finds segments; give --tiou",
        2,
    ),
    ErrorCase(
        "calibrate, both",
        "calibrated with --tiou and --tolerance",
        with_words("--tiou", "0.5", "--tolerance", "1"),
        r"not both",
        2,
    ),
    ErrorCase(
        "calibrate, tIoU", "calibrated at a tIoU above 1", with_words("--tiou", "50"), r"--tiou 50 is no overlap", 2
    ),
    ErrorCase(
        "calibrate, negative tolerance",
        "calibrated with a negative tolerance",
        with_words("--tolerance=-1"),
        r"--tolerance -1: give seconds",
        2,
    ),
    ErrorCase(
        "calibrate, one fold", "calibrated with one fold", with_words("--folds", "1"), r"--folds 1: give 2 or more", 2
    ),
    ErrorCase(
        "calibrate, many folds",
        "calibrated with more folds than recordings",
        with_words("--folds", "9"),
        r"--folds 9: there are only 3 recordings to divide",
        2,
    ),
    ErrorCase(
        "calibrate, group alone", "gave --group without --folds", with_words("--group", "rec"), r"give --folds, too", 2
    ),
    ErrorCase(
        "calibrate, group",
        "gave a --group that the recordings do not have",
        with_words("--folds", "2", "--group", r"user(\d+)"),
        r"--group .* finds nothing in recording 'rec5' \(3 in all\)",
        2,
    ),
]
