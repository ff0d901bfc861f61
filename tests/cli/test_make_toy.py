"""`eventide make-toy`: what it prints can be typed, from any configuration and in any folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from eventide.config_loading import load_config
from tests.conftest import REPOSITORY, RunCli
from tests.errors.error_case import CommandLineError, run_cli

CONFIGS = REPOSITORY / "configs"
OWN = """\
dataset:
  json_file: nowhere/annotations.json
  feat_folder: nowhere/features
  num_classes: 3
  input_dim: 32
  feat_stride: 8
  num_frames: 16
  default_fps: 24
  max_seq_len: 256
loader: {batch_size: 2}
model:
  backbone: {n_embd: 32, arch: [2, 1, 4], mha_win_size: 9}
opt: {learning_rate: 0.003, epochs: 30, warmup_epochs: 3}
"""


def printed(output: str) -> list[list[str]]:
    """The commands that the output shows, as words."""
    return [shlex.split(line) for line in output.splitlines() if line.startswith("  ")]


def test_what_is_printed(tmp_path: Path) -> None:
    output = run_cli(["make-toy", CONFIGS / "anet_tsp.yaml", "toy", "--recordings", "4"], tmp_path)
    assert output.startswith("Wrote 4 recordings (3 to train on), 24 events of 4 class(es), 512 channels, ")
    assert [shlex.join(words) for words in printed(output)] == [
        "eventide check toy/config.yaml",
        "python train.py toy/config.yaml --output try --set opt.epochs=3 opt.warmup_epochs=1",
        "eventide predict --checkpoint toy/runs/config_try/best.safetensors --config toy/config.yaml "
        "--split validation --output toy/runs/results.json",
        "eventide eval --predictions toy/runs/results.json --annotations toy/annotations.json --split validation "
        "--tiou 0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 0.9 0.95",
    ]
    assert "no problems, 0 warning(s)" in run_cli(printed(output)[0][1:], tmp_path)


@pytest.mark.parametrize(
    ("label", "lines", "expected"),
    [
        ("shortened", "opt: {epochs: 30}", ["--set", "opt.epochs=3", "opt.warmup_epochs=1"]),
        ("without warm-up", "opt: {epochs: 30, warmup: false}", ["--set", "opt.epochs=3"]),
        ("short already", "opt: {epochs: 3}", []),
        ("steps that a shorter training would miss", "opt: {schedule_type: multistep, schedule_steps: [10, 20]}", []),
    ],
)
def test_the_training_command_is_sound(tmp_path: Path, label: str, lines: str, expected: list[str]) -> None:
    (tmp_path / "c.yaml").write_text(f"dataset: {{input_dim: 8}}\n{lines}\n", encoding="utf-8")
    command = printed(run_cli(["make-toy", "c.yaml", "toy"], tmp_path))[1]
    assert command == ["python", "train.py", "toy/config.yaml", "--output", "try", *expected]
    load_config(tmp_path / "toy" / "config.yaml", expected[1:])


def test_a_folder_with_blanks_and_another_working_directory(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN, encoding="utf-8")
    output = run_cli(["make-toy", "mine.yaml", "my toy/first $one", "--seed", "5"], tmp_path)
    run_cli(printed(output)[0][1:], tmp_path)
    (tmp_path / "elsewhere").mkdir()
    checked = run_cli(["check", "../my toy/first $one/config.yaml", "--strict"], tmp_path / "elsewhere")
    assert "no problems" in checked


def test_seed_recordings_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN, encoding="utf-8")

    def database(*options: str) -> dict[str, object]:
        run_cli(["make-toy", "mine.yaml", "toy", *options], tmp_path)
        return dict(json.loads((tmp_path / "toy" / "annotations.json").read_text(encoding="utf-8"))["database"])

    first = database()
    assert len(first) == 9
    assert database("--seed", "1") != first
    assert len(database("--recordings", "5")) == 5
    overrides = ["dataset.num_classes=7", "train_split=[a, b]", "opt.epochs=4", "dataset.json_file=x"]
    assert {record["subset"] for record in database("--set", *overrides).values()} == {"a", "b", "validation"}  # type: ignore[index]
    config = load_config(tmp_path / "toy" / "config.yaml")
    assert (config.dataset.num_classes, config.opt.epochs, config.train_split) == (7, 4, ["a", "b"])
    assert config.dataset.json_file == str(tmp_path / "toy" / "annotations.json")
    assert database() == first


def test_flat_files_of_actionformer(tmp_path: Path) -> None:
    """Its loader leaves the last, smaller batch out, so there are recordings for one batch at least."""
    text = "dataset: {num_classes: 4, input_dim: 16}\nmodel: {n_mha_win_size: 9}\nloader: {batch_size: 8}\n"
    (tmp_path / "flat.yaml").write_text(text, encoding="utf-8")
    output = run_cli(["make-toy", "flat.yaml", "toy"], tmp_path)
    assert "11 recordings (8 to train on)" in output
    assert load_config(tmp_path / "toy" / "config.yaml").model.backbone.padding == "published"
    run_cli(printed(output)[0][1:], tmp_path)


def test_nothing_is_lost_without_being_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(OWN, encoding="utf-8")
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(CommandLineError, match=r"toy holds files that were not generated.*config\.yaml") as caught:
        run_cli(["make-toy", "mine.yaml", "toy"], tmp_path)
    assert caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["config.yaml"]
    assert (tmp_path / "toy" / "config.yaml").read_text(encoding="utf-8") == "mine"
    run_cli(["make-toy", "mine.yaml", "toy", "--force"], tmp_path)
    load_config(tmp_path / "toy" / "config.yaml")


def in_a_process(words: list[str], run_cli: RunCli, run_train: RunCli, folder: Path) -> str:
    """Run a printed command as a user would."""
    done = run_train(words[2:], folder) if words[0] == "python" else run_cli(words[1:], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["LocPointTransformer", "SnapFormer"])
def test_every_printed_command_runs_and_the_events_are_learnt(
    tmp_path: Path, architecture: str, run_cli: RunCli, run_train: RunCli
) -> None:
    (tmp_path / "mine.yaml").write_text(OWN.replace("model:", f"model:\n  meta_arch: {architecture}"), encoding="utf-8")
    output = in_a_process(["eventide", "make-toy", "mine.yaml", "toy"], run_cli, run_train, tmp_path)
    check, train, predict, evaluate = printed(output)
    train = train[: train.index("--set")]  # all epochs
    for command in (check, train, predict):
        in_a_process(command, run_cli, run_train, tmp_path)
    in_a_process([*evaluate, "--json", "metrics.json"], run_cli, run_train, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["average_mAP"] > 0.6


@pytest.mark.slow
def test_proposals_get_their_classes_from_the_scores(tmp_path: Path, run_cli: RunCli, run_train: RunCli) -> None:
    """The ActivityNet recipe: resized recordings, one class in training, external scores after it."""
    small = ["model.backbone.n_embd=32", "opt.learning_rate=0.003", "loader.num_workers=0", "loader.batch_size=2"]
    words = ["eventide", "make-toy", str(CONFIGS / "anet_tsp.yaml"), "toy", "--set", *small, "test_cfg.nms_sigma=0.4"]
    check, train, predict, evaluate = printed(in_a_process(words, run_cli, run_train, tmp_path))
    for command in (check, [*train, "opt.epochs=30"], predict):
        in_a_process(command, run_cli, run_train, tmp_path)
    in_a_process([*evaluate, "--json", "metrics.json"], run_cli, run_train, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["mAP"][0] > 0.6
    assert metrics["classes_matched_by"] == "label"
