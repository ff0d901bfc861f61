"""Ways to get post-processing wrong: labels that there are not, no operating point, settings that contradict."""

from __future__ import annotations

from pathlib import Path

from tests.engine.making import tiny_config, write_config, write_data
from tests.errors.cases_checkpoints import model_file
from tests.errors.error_case import ErrorCase, run_cli


def predict(folder: Path, *words: str) -> None:
    """Predict with an untrained model of the classes clap and jump."""
    write_data(folder)
    model_file(folder)
    base = ["predict", "--checkpoint", "model.safetensors", "--features", "data/features", "--output", "r.json"]
    run_cli([*base, *words], folder)


def check(folder: Path, setting: str) -> None:
    write_data(folder)
    run_cli(["check", write_config(folder, tiny_config(folder)), "--set", setting], folder)


def case(label: str, how: str, setting: str, message: str, exit_code: int = 2) -> ErrorCase:
    return ErrorCase(label, how, lambda folder: predict(folder, "--set", f"test_cfg.{setting}"), message, exit_code)


CASES: list[ErrorCase] = [
    ErrorCase(
        "no operating point",
        "asked for the operating point of a model that was not calibrated",
        lambda folder: predict(folder, "--operating-point"),
        r"model\.safetensors has no operating point.*run `eventide calibrate`",
        1,
    ),
    case(
        "gap of an unknown label",
        "misspelt a label when predicting",
        "min_gap={jmp: 1.0}",
        r"min_gap: 'jmp' \(did you mean 'jump'\?\) is not among the labels: 'clap', 'jump'",
        1,
    ),
    ErrorCase(
        "check: threshold of an unknown label",
        "misspelt a label in a configuration",
        lambda folder: check(folder, "test_cfg.class_threshold={jump: 0.5, wave: 0.5}"),
        r"class_threshold: 'wave' is not among the labels: 'clap', 'jump'",
        1,
    ),
    case("gap below 0", "asked for a gap below 0", "min_gap=-1", r"min_gap: must be a number, at least 0"),
    case(
        "limits upside down", "swapped the limits of a duration", "duration_limits=[9, 1]", r"0 <= shortest <= longest"
    ),
    case("temperature 0", "asked for a temperature of 0", "score_temperature=0", r"must be a number, greater than 0"),
    case("threshold above 1", "asked for a score above 1", "class_threshold.clap=2", r"at least 0, at most 1"),
    ErrorCase(
        "class sigma across classes",
        "gave classes widths of their own where classes play no part",
        lambda folder: predict(folder, "--set", "test_cfg.class_sigma={clap: 1}", "test_cfg.multiclass_nms=false"),
        r"class_sigma: is for suppression within each class, but test_cfg\.multiclass_nms is false",
        2,
    ),
    case(
        "quantiles of ActionFormer",
        "asked ActionFormer for quantiles",
        "quantiles=[0.1, 0.9]",
        r"belongs to .*TBTFormer",
    ),
]
