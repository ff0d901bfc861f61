"""Ways to get a toy data set wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.errors.error_case import ErrorCase, run_cli

CONFIG = "dataset: {input_dim: 4, num_classes: 2}\nmodel: {backbone: {n_embd: 8}}\n"
DROPPING = "dataset: {input_dim: 4}\nloader: {batch_size: 16, drop_last: true}\n"
FOLDERS = "dataset: {input_dim: 2, feat_folder: [rgb, flow, audio]}\n"


def made(*options: str, text: str = CONFIG, before: Callable[[Path], object] | None = None) -> Callable[[Path], object]:
    """Write `text` as c.yaml, do what is to happen `before`, then `eventide make-toy c.yaml toy OPTIONS`."""

    def run(folder: Path) -> object:
        (folder / "c.yaml").write_text(text, encoding="utf-8")
        if before:
            before(folder)
        return run_cli(["make-toy", "c.yaml", "toy", *options], folder)

    return run


def _mine(folder: Path) -> None:
    (folder / "toy").mkdir()
    (folder / "toy" / "thesis.txt").write_text("mine", encoding="utf-8")


def _edited(folder: Path) -> None:
    run_cli(["make-toy", "c.yaml", "toy"], folder)
    (folder / "toy" / "config.yaml").write_text("seed: 1\n", encoding="utf-8")


def _itself(folder: Path) -> object:
    made()(folder)
    return run_cli(["make-toy", "toy/config.yaml", "toy"], folder)


CASES: list[ErrorCase] = [
    ErrorCase(
        "toy of nothing",
        "named a configuration that is not there",
        lambda folder: run_cli(["make-toy", "c.yaml", "toy"], folder),
        r"c\.yaml: no such configuration file",
        2,
    ),
    ErrorCase(
        "toy among files",
        "made a toy data set in a folder with other files",
        made(before=_mine),
        r"toy holds files that were not generated, or were changed since: thesis\.txt; give another folder, or --force",
        2,
    ),
    ErrorCase(
        "toy edited",
        "made a toy data set again after editing its config.yaml",
        made(before=_edited),
        r"changed since: config\.yaml",
        2,
    ),
    ErrorCase(
        "toy into a file",
        "named a file as the folder of a toy data set",
        made(before=lambda folder: (folder / "toy").write_text("mine")),
        r"toy is a file; give a folder",
        2,
    ),
    ErrorCase(
        "toy of itself", "made a toy data set of its own config.yaml in its own folder", _itself, r"itself|folder", 2
    ),
    ErrorCase(
        "toy too small",
        "asked for a toy data set of one recording",
        made("--recordings", "1"),
        r"--recordings 1: .* 2 or more, 1 to train on and 1 to evaluate on",
        2,
    ),
    ErrorCase(
        "toy below a batch",
        "asked for fewer recordings than a batch that must be full",
        made("--recordings", "9", text=DROPPING),
        r"17 or more, 16 to train on \(16 make one batch",
        2,
    ),
    ErrorCase(
        "toy seed", "gave a negative seed for a toy data set", made("--seed", "-1"), r"--seed -1: give 0 or more", 2
    ),
    ErrorCase(
        "toy channels",
        "named more feature folders than there are channels",
        made(text=FOLDERS),
        r"2 channels cannot be shared among 3 feature folders",
        2,
    ),
]
