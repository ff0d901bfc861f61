"""`eventide eval` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
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
