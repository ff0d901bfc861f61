"""Ways to get a measurement wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from tests.engine.making import tiny_config, write_config
from tests.errors.error_case import ErrorCase, run_cli


def bench(*words: str) -> Callable[[Path], object]:
    """`eventide bench tiny.yaml WORDS`, without any data."""

    def run(folder: Path) -> None:
        write_config(folder, tiny_config(folder))
        run_cli(["bench", "tiny.yaml", *words], folder)

    return run


def case(label: str, how: str, words: list[str], message: str) -> ErrorCase:
    return ErrorCase(label, how, bench(*words), message, 2)


def page_without_markers(folder: Path) -> None:
    (folder / "page.md").write_text("# Benchmarks\n", encoding="utf-8")
    bench("--ablation", "--write", "page.md")(folder)


def no_compiler(folder: Path) -> None:
    with mock.patch.dict(os.environ, {"CXX": "no-such-compiler"}):
        bench("--only", "training", "--set", "train_cfg.compile=true")(folder)


CASES: list[ErrorCase] = [
    case("bench, no runs", "measured with no runs", ["--runs", "0"], r"--runs 0: give 1 or more"),
    case(
        "bench, length", "measured recordings of no length", ["--lengths", "0", "100"], r"--lengths 0: give 1 or more"
    ),
    case("bench, twice", "gave a length twice", ["--lengths", "100", "100"], r"--lengths: the same number twice"),
    case("bench, device", "measured on no device", ["--device", "gpu"], r"device .gpu.: give auto, cpu, cuda"),
    case("bench, picture", "drew the curves into an unknown format", ["--plot", "p.gif"], r"a picture ends in"),
    case(
        "bench, one point",
        "drew a curve through one length",
        ["--only", "inference", "--lengths", "100", "--plot", "p.png"],
        r"needs at least two lengths",
    ),
    case("bench, folder", "wrote the numbers to a folder", ["--json", "."], r"is a folder; give the path of a file"),
    case("bench, page", "named a page without --ablation", ["--write", "page.md"], r"--write goes with --ablation"),
    case(
        "ablation, no page",
        "wrote the ablation to a page that is not there",
        ["--ablation", "--write", "page.md"],
        r"page\.md: cannot be read: No such file",
    ),
    ErrorCase(
        "ablation, markers",
        "wrote the ablation to a page without its markers",
        page_without_markers,
        r"must have once each.*<!-- ablation:begin cpu -->.*left as it is",
        2,
    ),
    case(
        "ablation, lengths", "asked for an ablation at two lengths", ["--ablation", "--lengths", "8", "9"], r"give one"
    ),
    case("ablation, amp", "asked for an ablation in mixed precision", ["--ablation", "--amp"], r"leave out.*--amp"),
    case(
        "ablation, convolutions",
        "asked for an ablation of a convolutional backbone",
        ["--ablation", "--set", "model.backbone_type=conv"],
        r"compares transformers; model\.backbone_type is conv",
    ),
    ErrorCase(
        "bench, no compiler", "measured a compiled training without a compiler", no_compiler, r"C\+\+ compiler", 2
    ),
]
