"""`eventide predict`: folders and splits, rates and durations, files that it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from eventide.cli.predict_shown import Shown, first_before_others, said_once
from eventide.engine.model_file import save_model
from eventide.engine.processes import Launch
from eventide.types import AlreadySaidError, EventideError, UsageError
from tests.engine.making import tiny_config, write_config, write_data
from tests.engine.test_predict import stored
from tests.errors.error_case import CommandLineError, run_cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data, an untrained model and its configuration."""
    write_data(tmp_path)
    config = tiny_config(tmp_path)
    save_model(tmp_path / "model.safetensors", stored(config, fps=10.0))
    write_config(tmp_path, config)
    return tmp_path


def predict(folder: Path, *words: object, output: str = "r.json") -> dict[str, list[dict[str, Any]]]:
    """The results of `eventide predict` with these words."""
    said = run_cli(["predict", "--checkpoint", "model.safetensors", "--output", output, *map(str, words)], folder)
    assert f"wrote {output}" in said
    return json.loads((folder / output).read_text())["results"]


def flat(results: dict[str, list[dict[str, Any]]]) -> np.ndarray:
    """All segments and scores, recording by recording."""
    return np.array([[*item["segment"], item["score"]] for name in sorted(results) for item in results[name]])


def test_a_folder_with_annotations_gives_what_the_splits_give(folder: Path) -> None:
    words = ["--features", "data/features", "--annotations", "data/annotations.json"]
    of_folder = predict(folder, *words)
    assert sorted(of_folder) == [f"rec{index}" for index in range(8)]
    of_splits = {}
    for split in ("training", "VALIDATION"):
        of_splits.update(predict(folder, "--config", "tiny.yaml", "--split", split, output=f"{split}.json"))
    np.testing.assert_allclose(flat(of_folder), flat(of_splits), atol=1e-4)


def test_batches_change_nothing(folder: Path) -> None:
    one = predict(folder, "--features", "data/features", "--batch-size", 1)
    many = predict(folder, "--features", "data/features", "--batch-size", 5, output="many.json")
    np.testing.assert_allclose(flat(one), flat(many), atol=1e-4)


@pytest.mark.parametrize("has_bfloat16", [True, False], ids=["bfloat16", "none"])
def test_low_precision_is_close_and_says_so(folder: Path, has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventide.engine.devices.cpu_has_bfloat16", lambda: has_bfloat16)
    full = predict(folder, "--features", "data/features", "--device", "cpu")
    words = ["predict", "--checkpoint", "model.safetensors", "--output", "low.json", "--features", "data/features"]
    said = run_cli([*words, "--device", "cpu", "--amp"], folder)
    assert ("mixed precision: bfloat16" in said) == has_bfloat16
    assert ("--amp has no effect" in said) != has_bfloat16
    low = json.loads((folder / "low.json").read_text())["results"]
    for name, detections in full.items():
        best, other = max(item["score"] for item in detections), max(item["score"] for item in low[name])
        assert abs(best - other) < 0.02
        assert has_bfloat16 or best == other
    same = [item["score"] for name in full for item in full[name]] == [
        item["score"] for name in low for item in low[name]
    ]
    assert same != has_bfloat16


def test_rate_of_annotations_then_of_the_option_then_of_the_model(folder: Path) -> None:
    database = json.loads((folder / "data" / "annotations.json").read_text())["database"]
    del database["rec0"], database["rec1"]["fps"]
    for record in database.values():
        record["duration"] = None
    (folder / "some.json").write_text(json.dumps({"database": database}))
    model = predict(folder, "--features", "data/features")
    given = predict(folder, "--features", "data/features", "--fps", 20, "--annotations", "some.json", output="g.json")
    for name, factor in (("rec0", 2.0), ("rec1", 2.0), ("rec2", 1.0)):
        np.testing.assert_allclose(
            factor * flat({name: given[name]})[:, :2], flat({name: model[name]})[:, :2], rtol=1e-5
        )


def test_detections_end_with_the_recording(folder: Path) -> None:
    database = json.loads((folder / "data" / "annotations.json").read_text())["database"]
    results = predict(folder, "--features", "data/features", "--annotations", "data/annotations.json")
    for name, items in results.items():
        assert max(item["segment"][1] for item in items) <= database[name]["duration"]


def test_csv_and_lowest_score(folder: Path) -> None:
    results = predict(folder, "--features", "data/features", "--min-score", 0.25, "--csv", "r.csv")
    scores = flat(results)[:, 2]
    assert scores.min() >= 0.25
    with (folder / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(scores)
    assert {row["recording"] for row in rows} == set(results)


def test_settings_on_the_command_line(folder: Path) -> None:
    results = predict(folder, "--features", "data/features", "--set", "test_cfg.max_seg_num=3")
    assert {len(items) for items in results.values()} == {3}
    of_split = predict(
        folder, "--config", "tiny.yaml", "--split", "validation", "--set", "test_cfg.max_seg_num=2", output="s.json"
    )
    assert {len(items) for items in of_split.values()} == {2}


@pytest.mark.parametrize(
    "setting",
    [
        "use_diou_nms=true",
        "score_temperature=3",
        "class_sigma={clap: 0.01}",
        "class_sigma.jump=0.01",
        "min_gap=0.5",
        "min_gap={jump: 2}",
        "max_overlap=0.1",
        "max_overlap.clap=0",
        "duration_limits=[0.1, 1.5]",
        "duration_limits={clap: [0.1, 1]}",
    ],
)
def test_every_key_of_suppression_and_rules_acts(folder: Path, setting: str) -> None:
    plain = predict(folder, "--features", "data/features")
    changed = predict(folder, "--features", "data/features", "--set", f"test_cfg.{setting}", output="changed.json")
    assert changed != plain


def test_operating_point(folder: Path) -> None:
    everything = predict(folder, "--features", "data/features", output="all.json")
    words = ["--operating-point", "--set", "test_cfg.class_threshold={jump: 0.3, clap: 0.25}"]
    some = predict(folder, "--features", "data/features", *words)
    lowest = {"clap": 0.25, "jump": 0.3}
    assert some == {
        name: [item for item in items if item["score"] >= lowest[item["label"]]] for name, items in everything.items()
    }
    assert 0 < len(flat(some)) < len(flat(everything))
    split = predict(folder, "--config", "tiny.yaml", "--split", "validation", *words, output="s.json")
    np.testing.assert_allclose(flat(split), flat({name: some[name] for name in split}), atol=1e-4)


def test_thresholds_of_the_model_serve_every_configuration(folder: Path) -> None:
    config = tiny_config(folder, test_cfg={"class_threshold": {"clap": 0.25, "jump": 0.25}})
    save_model(folder / "model.safetensors", stored(config, fps=10.0))
    words = ["--config", "tiny.yaml", "--split", "validation", "--operating-point"]
    found = flat(predict(folder, *words))
    assert len(found) > 0
    assert found[:, 2].min() >= 0.25


def test_existing_files_are_kept_unless_forced(folder: Path) -> None:
    predict(folder, "--features", "data/features")
    before = (folder / "r.json").read_text()
    with pytest.raises(CommandLineError, match="exists already"):
        predict(folder, "--features", "data/features", "--min-score", 0.5)
    assert (folder / "r.json").read_text() == before
    predict(folder, "--features", "data/features", "--min-score", 0.5, "--force")
    assert (folder / "r.json").read_text() != before


def test_several_folders_are_joined(folder: Path) -> None:
    halves = []
    for half in (0, 1):
        (folder / f"half{half}").mkdir()
        for path in (folder / "data" / "features").iterdir():
            np.save(folder / f"half{half}" / path.name, np.load(path)[:, 2 * half : 2 * half + 2])
        halves.append(f"half{half}")
    whole = predict(folder, "--features", "data/features")
    np.testing.assert_allclose(flat(predict(folder, "--features", *halves, output="j.json")), flat(whole), atol=1e-6)


def test_other_endings(folder: Path) -> None:
    (folder / "other").mkdir()
    for path in (folder / "data" / "features").iterdir():
        save_file({"feats": np.load(path)}, folder / "other" / f"x_{path.stem}.safetensors")
    with pytest.raises(CommandLineError, match=r"no feature files \*\.npy"):
        predict(folder, "--features", "other")
    words = ["--set", "dataset.file_ext=.safetensors", "dataset.file_prefix=x_"]
    whole = predict(folder, "--features", "data/features", output="w.json")
    np.testing.assert_allclose(flat(predict(folder, "--features", "other", *words)), flat(whole), atol=1e-6)


def test_labels_of_the_annotations_do_not_matter(folder: Path) -> None:
    text = (folder / "data" / "annotations.json").read_text().replace("clap", "wave")
    (folder / "data" / "annotations.json").write_text(text)
    results = predict(folder, "--config", "tiny.yaml", "--split", "validation")
    assert {item["label"] for items in results.values() for item in items} == {"clap", "jump"}


def test_external_scores_give_the_classes(folder: Path) -> None:
    config = tiny_config(folder, dataset={**tiny_config(folder).dataset.model_dump(), "num_classes": 1})
    model = stored(config, fps=10.0)
    model.labels = ["proposal"]
    save_model(folder / "model.safetensors", model)
    write_config(folder, config)
    (folder / "scores.json").write_text(json.dumps({"results": {f"rec{i}": [0.1, 0.9] for i in range(8)}}))
    words = ["--config", "tiny.yaml", "--split", "validation", "--set", "test_cfg.ext_score_file=scores.json"]
    best = {name: items[0]["label"] for name, items in predict(folder, *words).items()}
    assert set(best.values()) == {"jump"}
    (folder / "scores.json").write_text(json.dumps({"rec5": [0.1, 0.9]}))
    with pytest.raises(CommandLineError, match="no external scores for recording"):
        predict(folder, *words, "--force")


def test_the_same_command_goes_on(folder: Path) -> None:
    whole = predict(folder, "--features", "data/features", output="whole.json")
    shortest = min((folder / "data" / "features").iterdir(), key=lambda path: len(np.load(path)))
    good = shortest.read_bytes()
    np.save(shortest, np.full_like(np.load(shortest), np.nan))
    with pytest.raises(CommandLineError, match=r"NaN or Inf.*; 7 of 8 recordings are finished, the same command goes"):
        predict(folder, "--features", "data/features", "--csv", "r.csv")
    assert not (folder / "r.json").exists()
    shortest.write_bytes(good)
    words = ["predict", "--checkpoint", "model.safetensors", "--output", "r.json", "--features", "data/features"]
    said = run_cli([*words, "--csv", "r.csv"], folder).splitlines()
    assert said[0] == "going on with r.json.parts: 7 of 8 recordings are finished"
    assert said[1].endswith("; 7 were finished before)")
    assert json.loads((folder / "r.json").read_text())["results"] == whole
    assert not (folder / "r.json.parts").exists()


def test_an_output_that_exists_is_kept_while_parts_are_there(folder: Path) -> None:
    """The results of an earlier run, forced to be overwritten, are there until the new ones are."""
    (folder / "r.json").write_text("{}")
    shortest = min((folder / "data" / "features").iterdir(), key=lambda path: len(np.load(path)))
    np.save(shortest, np.full_like(np.load(shortest), np.nan))
    with pytest.raises(CommandLineError, match="NaN or Inf"):
        predict(folder, "--features", "data/features", "--force")
    assert (folder / "r.json").read_text() == "{}"
    with pytest.raises(CommandLineError, match=r"r\.json exists already"):
        predict(folder, "--features", "data/features")
    assert (folder / "r.json.parts").exists()


FIRST, SECOND = Launch("torchrun", 0, 2, 0, 2), Launch("torchrun", 1, 2, 1, 2)


@pytest.mark.parametrize("error", [EventideError, UsageError])
def test_who_tells_of_a_mistake(error: type[EventideError], monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)

    def told(context: Any, launch: Launch) -> EventideError:
        with pytest.raises(EventideError) as caught, context(launch):
            raise error("no such folder")
        return caught.value

    assert str(told(said_once, FIRST)) == str(told(first_before_others, FIRST)) == "no such folder"
    assert waited == []
    second = told(said_once, SECOND)
    assert isinstance(second, AlreadySaidError)
    assert second.is_usage == (error is UsageError)
    assert waited == []
    second = told(first_before_others, SECOND)
    assert (type(second), str(second)) == (error, "process 1 of 2: no such folder")
    assert len(waited) == 1


def test_a_line_a_minute_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = Shown(FIRST, lambda finished, total: None, "r.json.parts")
    shown.begin(0, 90)
    for finished in range(1, 90):
        now[0] += 2.0
        shown.progress(finished, 90)
    assert capsys.readouterr().out == "30 of 90 recordings\n60 of 90 recordings\n"
    shown.failure(OSError(28, "No space left on device", "r.json.parts/a.jsonl"), 60, 90)
    told = "error: process 0 of 2: No space left on device: r.json.parts/a.jsonl; the others finish what is theirs"
    assert capsys.readouterr().err == f"{told}; 60 of 90 recordings are finished, the same command goes on from there\n"
