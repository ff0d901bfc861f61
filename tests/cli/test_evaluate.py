"""`eventide eval` as a user runs it."""

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
]


def test_tables_and_json(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(
        ["eval", *FILES, "--split", "validation", "--protocol", "thumos", "--per-class", "--json", "out/metrics.json"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "average" in done.stdout
    assert "19.41" in done.stdout
    assert "class_8" in done.stdout
    assert "257 predictions are for recordings outside the split" in done.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    expected = json.loads((REFERENCE / "eval_expected.json").read_text(encoding="utf-8"))["thumos"]
    for key in ("mAP", "recall_at_1x", "recall_at_5x", "tiou_thresholds"):
        assert metrics[key] == pytest.approx(expected[key], abs=1e-9)
    assert metrics["average_mAP"] == pytest.approx(expected["average_mAP"], abs=1e-9)
    for found, row in zip(metrics["per_class_AP"], expected["per_class_AP"], strict=True):
        assert found == pytest.approx(row, abs=1e-9)
    assert metrics["classes"] == [f"class_{i}" for i in range(9)]
    assert metrics["counts"]["ground_truth"] == sum(metrics["num_ground_truth"])


def test_several_splits_and_own_thresholds(tmp_path: Path) -> None:
    run_here(
        ["eval", *FILES, "--split", "TRAINING", "Validation", "--tiou", "0.5", "0.25", "--json", "m.json"], tmp_path
    )
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert metrics["tiou_thresholds"] == [0.25, 0.5]
    assert metrics["counts"]["recordings"] == 40
    assert metrics["counts"]["predictions_outside_split"] == 0
    assert metrics["protocol"] is None


@pytest.mark.parametrize(
    ("label", "results", "note"),
    [
        ("no predictions", {}, "no predictions, so every number is 0"),
        (
            "no recording of the split",
            {"x": [{"segment": [0, 1], "label": "class_1", "score": 1}]},
            "no recording of the split",
        ),
        (
            "unknown class",
            {"v000": [{"segment": [0, 1], "label": "swim", "score": 1}]},
            "1 predictions are of classes without",
        ),
    ],
)
def test_notes(tmp_path: Path, label: str, results: object, note: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    out = run_here(["eval", "--predictions", "r.json", *FILES[2:], "--split", "validation", "--tiou", "0.5"], tmp_path)
    assert note in out
    assert "0.00" in out


POINT_FILES = [
    "--predictions",
    str(REFERENCE / "points_predictions.json"),
    "--annotations",
    str(REFERENCE / "points_ground_truth.json"),
    "--split",
    "validation",
]


@pytest.mark.parametrize(
    ("label", "options", "expected_key"),
    [
        ("seconds", ["--tolerance", "0", "0.04", "0.08", "0.16", "0.32", "1"], "tolerances_seconds"),
        ("frames", ["--tolerance-frames", "0", "1", "2", "4", "8", "25"], "tolerances_frames"),
        (
            "frames, rate given",
            ["--tolerance-frames", "0", "1", "2", "4", "8", "25", "--fps", "25"],
            "tolerances_frames",
        ),
    ],
)
def test_points(tmp_path: Path, label: str, options: list[str], expected_key: str) -> None:
    out = run_here(["eval", *POINT_FILES, *options, "--json", "m.json", "--per-class"], tmp_path)
    expected = json.loads((REFERENCE / "points_expected.json").read_text(encoding="utf-8"))
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert metrics["tolerances"] == expected[expected_key]
    assert metrics["mAP"] == pytest.approx(expected["mAP"], abs=1e-9)
    columns = dict(zip(metrics["classes"], zip(*metrics["per_class_AP"], strict=True), strict=True))
    for name, precisions in expected["per_class_AP"].items():
        assert list(columns[name]) == pytest.approx(precisions, abs=1e-9)
    for part in ("timing error", "26.84", "Average precision per class", "Recall (%) and mean timing error"):
        assert part in out
    assert metrics["point_position"] == "centre"


def test_points_without_a_tolerance(tmp_path: Path) -> None:
    out = run_here(["eval", *POINT_FILES, "--json", "m.json"], tmp_path)
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["tolerances"] == [0.25, 0.5, 1]
    assert "28.57" in out


@pytest.mark.parametrize("frames", ["0.5", "1e3", "one", "²"])
def test_frames_are_whole(tmp_path: Path, frames: str) -> None:
    with pytest.raises(CommandLineError, match=r"is no whole number of frames; seconds go with --tolerance") as caught:
        run_here(["eval", *POINT_FILES, "--tolerance-frames", "1", frames], tmp_path)
    assert caught.value.exit_code == 2


def test_soccernet(tmp_path: Path) -> None:
    out = run_here(["eval", *POINT_FILES, "--protocol", "soccernet-tight", "--json", "m.json", "--per-class"], tmp_path)
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert metrics["windows"] == [1, 2, 3, 4, 5]
    assert f"{100 * metrics['average_mAP']:.2f}" in out
    assert sum(metrics["average_AP"]) / 3 == pytest.approx(metrics["average_mAP"])


@pytest.mark.parametrize(
    ("position", "precision"), [("start", [0.0, 0.5]), ("centre", [1.0, 1.0]), ("end", [0.0, 0.5]), ("", [1.0, 1.0])]
)
def test_points_of_annotated_segments(tmp_path: Path, position: str, precision: list[float]) -> None:
    events = [{"segment": [2, 4], "label": "snap"}, {"time": 9, "label": "kick"}, {"segment": [8, 9], "label": "kick"}]
    database = {"a": {"subset": "validation", "duration": 60, "annotations": events}}
    found = [{"time": 3, "label": "snap", "score": 0.5}, {"time": 9, "label": "kick", "score": 0.5}]
    found.append({"time": 8.5, "label": "kick", "score": 0.4})
    (tmp_path / "a.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps({"results": {"a": found}}), encoding="utf-8")
    options = ["--point-position", position] if position else []
    files = ["--predictions", "r.json", "--annotations", "a.json", "--split", "validation", "--json", "m.json"]
    out = run_here(["eval", *files, "--tolerance", "0.4", "1", *options], tmp_path)
    assert "note: 2 annotated segments are taken as points" in out
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert metrics["point_position"] == (position or "centre")
    by_class = dict(zip(metrics["classes"], zip(*metrics["per_class_AP"], strict=True), strict=True))
    assert list(by_class["snap"]) == pytest.approx([precision[0], 1.0])


def test_points_beside_segments_do_not_count(tmp_path: Path) -> None:
    events = [{"segment": [2, 4], "label": "snap"}, {"time": 9, "label": "snap"}]
    database = {"a": {"subset": "validation", "duration": 60, "annotations": events}}
    (tmp_path / "a.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    found = {"a": [{"segment": [2, 4], "label": "snap", "score": 0.5}]}
    (tmp_path / "r.json").write_text(json.dumps({"results": found}), encoding="utf-8")
    files = ["--predictions", "r.json", "--annotations", "a.json", "--split", "validation"]
    out = run_here(["eval", *files, "--tiou", "0.5"], tmp_path)
    assert "100.00" in out
    assert "note: 1 point events do not count here" in out


@pytest.mark.parametrize(
    "options", [["--tolerance", "1"], ["--tolerance-frames", "1"], ["--protocol", "soccernet-loose"]]
)
def test_no_points_found(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"results": {}}), encoding="utf-8")
    out = run_here(["eval", "--predictions", "r.json", *POINT_FILES[2:], *options, "--json", "m.json"], tmp_path)
    assert "no predictions, so every number is 0" in out
    assert "NaN" not in (tmp_path / "m.json").read_text(encoding="utf-8")
