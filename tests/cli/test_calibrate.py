"""`eventide calibrate` from a trained model to detections at the operating point, for every architecture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.config_loading import load_config
from eventide.engine.calibrate import CALIBRATED, Request, folds_of, notes_on, prepare, uncalibrated
from eventide.engine.inference import Inference
from eventide.engine.model_file import load_model, stored_score
from eventide.engine.predict_files import with_data_of
from eventide.evaluation.operating_point import LEVELS
from eventide.models.registry import BUILDERS
from eventide.types import UsageError
from tests.engine.making import run_training, tiny_config, write_config, write_data
from tests.errors.error_case import CommandLineError, run_cli

WORDS = ("calibrate", "--checkpoint", "runs/tiny_run", "--config", "tiny.yaml", "--split", "training", "validation")
BACKBONE = {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a configuration and a run: a trained model of every architecture."""
    folder = tmp_path_factory.mktemp(request.param)
    write_data(folder)
    model = {"meta_arch": request.param, "backbone": BACKBONE, "head_num_layers": 2}
    config = tiny_config(folder, model=model, opt={"epochs": 12, "warmup_epochs": 1, "learning_rate": 0.01})
    write_config(folder, config)
    run_training(folder, config, "run", print_freq=1000)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def calibrate(folder: Path, *words: object) -> dict[str, Any]:
    """The report of `eventide calibrate`."""
    said = run_cli([*WORDS, "--json", "report.json", *map(str, words)], folder)
    assert "are stored in runs/tiny_run/best.safetensors" in said
    assert "next: eventide predict --operating-point" in said
    return json.loads((folder / "report.json").read_text())


def predict(folder: Path, *words: object) -> list[dict[str, Any]]:
    """All detections in the recordings that were calibrated on, by recording."""
    found = []
    for split in ("training", "validation"):
        named = ["--config", "tiny.yaml", "--split", split, "--output", "r.json", "--force", *map(str, words)]
        run_cli(["predict", "--checkpoint", "runs/tiny_run", *named], folder)
        results = json.loads((folder / "r.json").read_text())["results"]
        found += [{**item, "recording": name} for name, items in results.items() for item in items]
    return found


def test_only_the_configuration_changes(folder: Path) -> None:
    path = folder / "runs" / "tiny_run" / "best.safetensors"
    before, score = load_model(path), stored_score(path)
    report = calibrate(folder)
    after = load_model(path)
    assert stored_score(path) == score is not None
    assert after.labels == before.labels
    assert after.fps == before.fps
    assert list(after.tensors) == list(before.tensors)
    assert all(after.tensors[name].equal(tensor) for name, tensor in before.tensors.items())
    assert uncalibrated(after.config) == before.config
    held = after.config.test_cfg
    assert held.score_temperature == report["temperature"]
    assert held.class_threshold == {row["label"]: row["threshold"] for row in report["classes"]}
    assert held.std_scale == report["std_scale"]
    assert list(path.parent.glob("*.tmp")) == []


def test_prediction_finds_what_the_report_says(folder: Path) -> None:
    report = calibrate(folder)
    found = predict(folder, "--operating-point")
    assert len(found) == report["operating_point"]["detections"]
    for row in report["classes"]:
        scores = [item["score"] for item in found if item["label"] == row["label"]]
        assert len(scores) == row["detections"]
        assert all(score >= np.float32(row["threshold"]) for score in scores)
    every = [item["score"] for item in predict(folder)]
    assert len(every) > len(found)
    counted = report["calibration_error"]["after"]["detections"]
    assert sum(score >= report["score_floor"] for score in every) == counted


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_one_pass_gives_what_a_decoder_with_that_temperature_gives(folder: Path, temperature: float) -> None:
    path = folder / "runs" / "tiny_run" / "best.safetensors"
    model, given = load_model(path), load_config(folder / "tiny.yaml")
    request = Request(given, folder / "tiny.yaml", ["training", "validation"])
    config = uncalibrated(with_data_of(given, folder / "tiny.yaml", path)(model.config))
    collected, _ = prepare(model, config, path, request, 0.5)
    collected.run_model(0, lambda *stage: None)
    judged = collected.judged(temperature)
    found = predict(folder, "--set", f"test_cfg.score_temperature={temperature}")
    names = collected.truth.recordings
    order = sorted(range(len(found)), key=lambda i: names.index(found[i]["recording"]))
    assert len(found) == len(judged.scores)
    np.testing.assert_allclose([found[i]["score"] for i in order], judged.scores, rtol=1e-4)
    ends = [found[i].get("segment") or [found[i]["time"]] * 2 for i in order]
    np.testing.assert_allclose(ends, judged.segments, atol=1e-3)


def test_the_model_runs_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    passes = Inference.candidates

    def counted(self: Inference, batch: Any) -> Any:
        seen.extend(batch.lengths)
        return passes(self, batch)

    monkeypatch.setattr(Inference, "candidates", counted)
    calibrate(folder, "--folds", 2)
    assert len(seen) == 8


def test_again_only_when_forced_and_then_from_the_beginning(folder: Path) -> None:
    first = calibrate(folder)
    stored = load_model(folder / "runs" / "tiny_run" / "best.safetensors").config
    with pytest.raises(CommandLineError, match=r"holds a calibration already .*--force replaces it"):
        calibrate(folder)
    assert calibrate(folder, "--force") == first
    assert load_model(folder / "runs" / "tiny_run" / "best.safetensors").config == stored


def test_intervals_hold_what_they_claim(folder: Path) -> None:
    report = calibrate(folder)
    if "intervals" not in report:
        assert report["std_scale"] is None
        return
    boundaries, level = report["intervals"]["boundaries"], LEVELS.index(0.8)
    assert boundaries == 2 * report["operating_point"]["right"]
    coverage = report["intervals"]["coverage"]["after"][level]
    assert 0.8 <= coverage <= 0.8 + 2 / boundaries
    database = json.loads((folder / "data" / "annotations.json").read_text())["database"]
    inside = []
    for item in predict(folder, "--operating-point", "--set", "test_cfg.quantiles=[0.1,0.9]"):
        low, high = item["quantiles"]["0.1"], item["quantiles"]["0.9"]
        events = [e["segment"] for e in database[item["recording"]]["annotations"] if e["label"] == item["label"]]
        best = max(events, key=lambda e: overlap(e, item["segment"]), default=None)
        if best is not None and overlap(best, item["segment"]) >= 0.5:
            inside += [low[side] - 1e-4 <= best[side] <= high[side] + 1e-4 for side in (0, 1)]
    assert len(inside) == boundaries
    assert np.mean(inside) == pytest.approx(coverage, abs=1.5 / boundaries)


def overlap(a: list[float], b: list[float]) -> float:
    """tIoU of two segments."""
    inter = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return inter / (a[1] - a[0] + b[1] - b[0] - inter)


def test_held_out_parts(folder: Path) -> None:
    report = calibrate(folder, "--folds", 2, "--group", r"rec(\d)")
    alone = calibrate(folder, "--force")
    held = report.pop("held_out")
    assert alone.pop("held_out") is None
    assert report == alone  # what is stored is fitted on all
    names = [fold["recordings"] for fold in held["folds"]]
    assert sorted(names[0] + names[1]) == [f"rec{i}" for i in range(8)]
    assert sum(fold["events"] for fold in held["folds"]) == held["together"]["events"] == report["events"]
    for content in (*held["folds"], held["together"]):
        assert 0 <= content["calibration_error"]["after"]["error"] <= 1
        assert ("intervals" in content) == ("intervals" in report)


@pytest.mark.parametrize(
    ("splits", "errors", "expected"),
    [
        pytest.param(["validation"], (0.08, 0.05), [], id="as it should be"),
        pytest.param(["validation"], (0.08, 0.08), [], id="nothing gained"),
        pytest.param(["validation"], (0.08, 0.09), ["the calibration error grew"], id="a larger error"),
        pytest.param(["Training", "validation"], (0.08, 0.05), ["the model was trained on Training"], id="seen before"),
    ],
)
def test_notes(tmp_path: Path, splits: list[str], errors: tuple[float, float], expected: list[str]) -> None:
    config = tiny_config(tmp_path)
    measured = {name: {"error": error} for name, error in zip(("before", "after"), errors, strict=True)}
    described = {"temperature": 0.8, "calibration_error": measured}
    notes = notes_on(described, Request(config, tmp_path / "tiny.yaml", splits), config)
    assert len(notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(notes, expected, strict=True))


def test_the_post_processing_of_the_configuration_is_stored_with_it(folder: Path) -> None:
    (folder / "tiny.yaml").write_text((folder / "tiny.yaml").read_text().replace("max_seg_num: 200", "max_seg_num: 20"))
    report = calibrate(folder)
    assert any("stored with the model, too: test_cfg.max_seg_num was 200 and is now 20" in n for n in report["notes"])
    held = load_model(folder / "runs" / "tiny_run" / "best.safetensors").config.test_cfg
    assert held.max_seg_num == 20
    assert held.pre_nms_thresh == 0.001
    assert held.quantiles is None


def test_a_class_without_events_takes_the_common_threshold_and_says_so(folder: Path) -> None:
    document = json.loads((folder / "data" / "annotations.json").read_text())
    for record in document["database"].values():
        record["annotations"] = [event for event in record["annotations"] if event["label"] == "clap"]
    (folder / "claps.json").write_text(json.dumps(document))
    said = run_cli([*WORDS, "--annotations", "claps.json", "--json", "report.json"], folder)
    assert "threshold of all classes together: it has no events here" in said
    report = json.loads((folder / "report.json").read_text())
    assert report["classes"][1]["threshold"] == report["common_threshold"]


def test_options_of_the_other_kind(folder: Path) -> None:
    points = load_config(folder / "tiny.yaml").resolve().dataset.events == "points"
    right, wrong = ("--tolerance", "--tiou") if points else ("--tiou", "--tolerance")
    with pytest.raises(CommandLineError, match=f"{wrong}: this model finds .*; give {right}"):
        calibrate(folder, wrong, 0.4)
    assert calibrate(folder, right, 0.4)["right_from"] == {right.removeprefix("--"): 0.4}


@pytest.mark.parametrize(
    ("label", "names", "folds", "group", "expected"),
    [
        ("recordings in turn", ["c", "a", "b"], 2, None, [0, 0, 1]),
        ("groups stay together", ["x_user1", "y_user2", "z_user1"], 2, r"user(\d+)", [0, 1, 0]),
        ("the whole match without brackets", ["a1x", "b1y", "a2z"], 2, r"^.", [0, 1, 0]),
        ("more folds", ["a", "b", "c"], 3, None, [0, 1, 2]),
    ],
)
def test_folds(label: str, names: list[str], folds: int, group: str | None, expected: list[int]) -> None:
    assert folds_of(names, folds, group).tolist() == expected


@pytest.mark.parametrize(
    ("label", "group", "message"),
    [
        ("no expression", "user(", "is no regular expression"),
        ("finds nothing", r"person\d", r"finds nothing in recording 'user1' \(2 in all\)"),
        ("one group", "user", "there are only 1 groups"),
    ],
)
def test_groups_that_cannot_be(label: str, group: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folds_of(["user1", "user2"], 2, group)


def test_keys_are_those_of_the_configuration(folder: Path) -> None:
    assert set(CALIBRATED) <= set(type(load_config(folder / "tiny.yaml").test_cfg).model_fields)
