"""Ways to get a command line wrong, whatever the command does."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from tests.engine.making import tiny_config, write_config, write_data
from tests.errors.error_case import CommandLineError, ErrorCase, run_cli


def case(label: str, how: str, words: list[str], message: str) -> ErrorCase:
    return ErrorCase(label, how, lambda folder: run_cli(words, folder), message, 2)


def train(folder: Path, *words: str) -> None:
    """`python train.py tiny.yaml WORDS` in this process, with data that is there."""
    from eventide.cli import make_app, run
    from eventide.cli.train import train as command

    write_data(folder)
    app = make_app("train.py", "Train a model.")
    app.default(command)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = run(app, [str(write_config(folder, tiny_config(folder))), *words])
    if code:
        raise CommandLineError(errors.getvalue().removeprefix("error: ").strip(), code)


def output_exists(folder: Path) -> None:
    (folder / "r.json").write_text("{}")
    run_cli([*PREDICT, "--features", "."], folder)


def model_set(folder: Path) -> None:
    from tests.errors.cases_checkpoints import model_file

    model_file(folder)
    run_cli([*PREDICT, "--features", ".", "--set", "model.backbone.n_embd=16"], folder)


def no_such_device(folder: Path) -> None:
    from tests.errors.cases_checkpoints import model_file

    model_file(folder)
    run_cli([*PREDICT, "--features", ".", "--device", "gpu"], folder)


def run_exists(folder: Path) -> None:
    (folder / "runs" / "tiny").mkdir(parents=True)
    (folder / "runs" / "tiny" / "config.yaml").write_text("")
    train(folder)


def no_compiler(folder: Path) -> None:
    with mock.patch.dict(os.environ, {"CXX": "no-such-compiler"}):
        train(folder, "--set", "train_cfg.compile=true", "device=cpu")


PREDICT = ["predict", "--checkpoint", "model.safetensors", "--output", "r.json"]
FILES = ["--predictions", "results.json", "--annotations", "truth.json", "--split", "test"]

CASES: list[ErrorCase] = [
    case("command misspelt", "misspelt a command", ["chek", "c.yaml"], r"unknown command 'chek'; did you mean check\?"),
    case(
        "command unknown",
        "asked for a command that does not exist",
        ["xyz"],
        r"the commands are: bench, calibrate, check, config, eval",
    ),
    case("subcommand misspelt", "misspelt the second word", ["config", "shwo"], r"did you mean show\?"),
    case("no configuration", "left out the configuration", ["check"], r"check: CONFIG is missing"),
    case("word too many", "gave two configurations", ["check", "a.yaml", "b.yaml"], r"a word too many: 'b\.yaml'"),
    case("option misspelt", "misspelt an option", ["check", "a.yaml", "--sett", "a=1"], r"Did you mean --set\?"),
    case(
        "option without value",
        "gave --set and nothing after it",
        ["check", "a.yaml", "--set"],
        r"--set requires at least",
    ),
    case(
        "option left out",
        "left out --checkpoint",
        ["predict", "--output", "r.json"],
        r"predict: --checkpoint is missing",
    ),
    case(
        "not a number", "gave a word as a threshold", ["eval", *FILES, "--tiou", "high"], r"--tiou high: give a number"
    ),
    case(
        "not a whole number",
        "asked for one and a half GPUs",
        ["recommend", "--gpus", "1.5"],
        r"recommend: --gpus 1\.5: give a whole number",
    ),
    case(
        "unknown protocol",
        "named a protocol that does not exist",
        ["eval", *FILES, "--protocol", "coco"],
        r"Choose from: \"thumos\", \"activitynet\", \"epic\", \"ego4d\"",
    ),
    case("no source", "predicted from nothing", PREDICT, r"either --features DIR or --config FILE --split NAME"),
    case(
        "two sources",
        "predicted from a folder and a split",
        [*PREDICT, "--features", ".", "--config", "c.yaml", "--split", "test"],
        r"not both",
    ),
    case("no split", "left out --split", [*PREDICT, "--config", "c.yaml"], r"--config and --split belong together"),
    case("no folder", "predicted from no folder", [*PREDICT, "--features", "xyz"], r"--features xyz: there is no such"),
    ErrorCase("model set", "set a key of the model", model_set, r"the checkpoint decides that; dataset\.\*", 2),
    case(
        "rate set",
        "set a learning rate for predicting",
        [*PREDICT, "--config", "c.yaml", "--split", "test", "--set", "opt.learning_rate=1"],
        r"--set opt\.learning_rate=1: the checkpoint decides that",
    ),
    ErrorCase("device", "named no device", no_such_device, r"device 'gpu': give auto, cpu, cuda", 2),
    case("zero rate", "gave a rate of 0", [*PREDICT, "--features", ".", "--fps", "0"], r"--fps 0\.0: give a number"),
    case("zero batch", "gave a batch of 0", [*PREDICT, "--features", ".", "--batch-size", "0"], r"give 1 or more"),
    case("one output", "gave both outputs one name", [*PREDICT, "--features", ".", "--csv", "r.json"], r"same file as"),
    ErrorCase(
        "output exists", "named an output file that exists", output_exists, r"r\.json exists already.*--force", 2
    ),
    case(
        "import, ending",
        "gave a model file the wrong ending",
        ["import-actionformer", "c.yaml", "e.pth.tar", "model.pt"],
        r"must end in \.safetensors",
    ),
    ErrorCase("run exists", "trained into the folder of a run", run_exists, r"already holds a run.*--resume auto", 2),
    ErrorCase("run name", "named a run like a path", lambda f: train(f, "--output", "a/b"), r"give a plain name", 2),
    ErrorCase("print never", "printed every 0 steps", lambda f: train(f, "--print-freq", "0"), r"give 1 or more", 2),
    ErrorCase(
        "no compiler",
        "asked for compiled training without a C++ compiler",
        no_compiler,
        r"there is no no-such-compiler here; install one.*or set train_cfg\.compile: false",
        2,
    ),
]
