"""Ways to get a command line wrong, whatever the command does."""

from __future__ import annotations

from tests.errors.error_case import ErrorCase, run_cli


def case(label: str, how: str, words: list[str], message: str) -> ErrorCase:
    return ErrorCase(label, how, lambda folder: run_cli(words, folder), message, 2)


FILES = ["--predictions", "results.json", "--annotations", "truth.json", "--split", "test"]

CASES: list[ErrorCase] = [
    case("command misspelt", "misspelt a command", ["chek", "c.yaml"], r"unknown command 'chek'; did you mean check\?"),
    case(
        "command unknown", "asked for a command that does not exist", ["xyz"], r"the commands are: check, config, eval"
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
    case("not a number", "gave a word as a threshold", ["eval", *FILES, "--tiou", "high"], r"--tiou.*\"high\""),
    case(
        "unknown protocol",
        "named a protocol that does not exist",
        ["eval", *FILES, "--protocol", "coco"],
        r"Choose from: \"thumos\", \"activitynet\", \"epic\", \"ego4d\"",
    ),
]
