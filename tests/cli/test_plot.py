"""`eventide plot` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.errors.error_case import CommandLineError
from tests.errors.error_case import run_cli as run_here

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "postprocess_and_eval"
FILES = [
    "--predictions",
    str(REFERENCE / "eval_predictions.json"),
    "--annotations",
    str(REFERENCE / "eval_ground_truth.json"),
    "--split",
    "validation",
]


def test_bars_in_a_process_of_its_own(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(["plot", *FILES, "--output", "plots/bars.png"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Written to plots/bars.png" in done.stdout
    assert (tmp_path / "plots" / "bars.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("label", "options", "texts", "absent"),
    [
        (
            "recordings and score",
            ["--recording", "v001", "v000", "--min-score", "0.5"],
            ["v000", "score of 0.5", "as given"],
            "v002",
        ),
        ("best F1", [], ["best F1", "class_3"], "as given"),
        ("curves", ["--kind", "pr", "--tiou", "0.3"], ["tIoU 0.3", "mean", "class_8"], "v000"),
    ],
)
def test_pictures(tmp_path: Path, label: str, options: list[str], texts: list[str], absent: str) -> None:
    run_here(["plot", *FILES, "--output", "p.svg", *options], tmp_path)
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    for text in texts:
        assert text in picture
    assert absent not in picture


@pytest.mark.parametrize(
    ("label", "results", "text"),
    [
        ("no predictions", {}, "there are none in the results file"),
        ("classes that nobody knows", {"v000": [{"segment": [0, 5], "label": "swim", "score": 0.5}]}, "other classes"),
    ],
)
def test_unusual_results(tmp_path: Path, label: str, results: object, text: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    options = ["--recording", "v000", "--output", "p.svg"]
    run_here(["plot", "--predictions", "r.json", *FILES[2:], *options], tmp_path)
    assert text in (tmp_path / "p.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("unknown recording", ["--output", "p.png", "--recording", "v999"], "--recording v999"),
        ("unknown kind", ["--output", "p.png", "--kind", "pie"], "pie"),
        ("threshold", ["--output", "p.png", "--tiou", "2"], "--tiou 2 is no overlap"),
        ("ending", ["--output", "p.gif"], "a picture ends in"),
    ],
)
def test_wrong_use(tmp_path: Path, label: str, options: list[str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message) as caught:
        run_here(["plot", *FILES, *options], tmp_path)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
