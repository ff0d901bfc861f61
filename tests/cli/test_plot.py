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


POINT_FILES = [
    "--predictions",
    str(REFERENCE / "points_predictions.json"),
    "--annotations",
    str(REFERENCE / "points_ground_truth.json"),
    "--split",
    "validation",
]


@pytest.mark.parametrize(
    ("label", "options", "texts"),
    [
        ("ticks", ["--recording", "clip_04"], ["clip_04", "a tolerance of 0.5 s", "upper tick", "22 events, 24 detec"]),
        ("another tolerance", ["--tolerance", "1"], ["a tolerance of 1 s"]),
        (
            "curves",
            ["--kind", "pr", "--tolerance", "1"],
            ["Precision and recall at a tolerance of 1 s", "32.1"],
        ),
    ],
)
def test_points(tmp_path: Path, label: str, options: list[str], texts: list[str]) -> None:
    run_here(["plot", *POINT_FILES, "--output", "p.svg", *options], tmp_path)
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    for text in texts:
        assert text in picture
    assert "standard deviation" not in picture


@pytest.mark.parametrize(
    ("label", "results", "options"),
    [
        ("no points found", {}, []),
        ("no points found, tolerance given", {}, ["--tolerance", "0"]),
        ("classes that nobody knows", {"clip_04": [{"time": 3, "label": "swim", "score": 0.5}]}, ["--min-score", "0"]),
    ],
)
def test_unusual_points(tmp_path: Path, label: str, results: object, options: list[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    options = ["--recording", "clip_04", "--output", "p.svg", *options]
    run_here(["plot", "--predictions", "r.json", *POINT_FILES[2:], *options], tmp_path)
    assert "22 events" in (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_points_of_annotated_segments(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(
        json.dumps({"results": {"v000": [{"time": 3, "label": "class_1", "score": 0.5}]}}), encoding="utf-8"
    )
    options = ["--recording", "v000", "--output", "p.svg", "--point-position", "start"]
    run_here(["plot", "--predictions", "r.json", *FILES[2:], *options], tmp_path)
    assert "upper tick" in (tmp_path / "p.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("label", "more", "text", "absent"),
    [
        ("deviations", {}, "\u00b1 one standard deviation", "quantile"),
        (
            "quantiles",
            {"quantiles": {"0.25": [2, 8.5], "0.5": [3, 9], "0.75": [3.5, 13]}},
            "25% to 75% quantile",
            "standard deviation",
        ),
    ],
)
def test_uncertain_boundaries(tmp_path: Path, label: str, more: dict[str, object], text: str, absent: str) -> None:
    found = [{"segment": [3, 9], "label": "class_1", "score": 0.5, "segment_std": [0.5, 2], **more}]
    (tmp_path / "r.json").write_text(json.dumps({"results": {"v000": found}}), encoding="utf-8")
    options = ["--recording", "v000", "--output", "p.svg", "--min-score", "0"]
    run_here(["plot", "--predictions", "r.json", *FILES[2:], *options], tmp_path)
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert text in picture
    assert absent not in picture


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("tIoU", ["--tiou", "0.5"], "holds point events, and --tiou is for segments"),
        ("both", ["--tiou", "0.5", "--tolerance", "1"], "give one of them"),
        ("tolerance", ["--tolerance", "-1"], "--tolerance -1 is no tolerance"),
    ],
)
def test_wrong_use_with_points(tmp_path: Path, label: str, options: list[str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message) as caught:
        run_here(["plot", *POINT_FILES, "--output", "p.png", *options], tmp_path)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("unknown recording", ["--output", "p.png", "--recording", "v999"], "--recording v999"),
        ("unknown kind", ["--output", "p.png", "--kind", "pie"], "pie"),
        ("threshold", ["--output", "p.png", "--tiou", "2"], "--tiou 2 is no overlap"),
        ("tolerance", ["--output", "p.png", "--tolerance", "1"], "holds segments, and --tolerance is for point events"),
        ("ending", ["--output", "p.gif"], "a picture ends in"),
    ],
)
def test_wrong_use(tmp_path: Path, label: str, options: list[str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message) as caught:
        run_here(["plot", *FILES, *options], tmp_path)
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []
