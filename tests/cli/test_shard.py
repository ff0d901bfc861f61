"""`eventide shard`: shards of any configuration, and the same predictions from them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eventide.cli.shard import parse_size
from eventide.engine.model_file import load_model
from eventide.types import UsageError
from tests.engine.making import run_training, tiny_config, write_config, write_data
from tests.errors.cases_checkpoints import model_file
from tests.errors.error_case import CommandLineError, run_cli

SIZES = [
    ("512M", 512 << 20),
    ("2G", 2 << 30),
    ("1.5g", 3 << 29),
    ("64MiB", 64 << 20),
    ("10 KB", 10 << 10),
    ("1024", 1024),
    ("1T", 1 << 40),
]


@pytest.mark.parametrize(("text", "size"), SIZES, ids=[text for text, _ in SIZES])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "0", "1023", "5X", "1e9", "1M2", "inf"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="give a size of at least 1K, such as 512M"):
        parse_size(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path)
    write_config(tmp_path, tiny_config(tmp_path))
    return tmp_path


def test_predictions_are_the_same_to_the_last_bit(folder: Path) -> None:
    model_file(folder)
    said = run_cli(["shard", "tiny.yaml", "shards", "--size", "4K"], folder)
    assert said.endswith("Put into the configuration:\n\ndataset:\n  feat_folder: shards\n")
    assert "shards: 8 recordings in 5 shard(s), " in said
    words = ["predict", "--checkpoint", "model.safetensors", "--config", "tiny.yaml", "--split", "validation"]
    for name, more in (
        ("files", []),
        ("shards", ["--set", "dataset.feat_folder=shards"]),
        ("url", ["--set", f"dataset.feat_folder=file://{folder}/shards"]),
        ("workers", ["--set", "dataset.feat_folder=shards", "--set", "loader.num_workers=2"]),
    ):
        run_cli([*words, "--output", f"{name}.json", *more], folder)
        assert json.loads((folder / f"{name}.json").read_text()) == json.loads((folder / "files.json").read_text())
    for name, features in (("a", "data/features"), ("b", "shards")):
        words = ["predict", "--checkpoint", "model.safetensors", "--features", features, "--fps", "10"]
        run_cli([*words, "--output", f"{name}.json"], folder)
    assert json.loads((folder / "a.json").read_text()) == json.loads((folder / "b.json").read_text())


def test_check_says_the_same(folder: Path) -> None:
    run_cli(["shard", "tiny.yaml", "shards"], folder)
    of_files = run_cli(["check", "tiny.yaml"], folder)
    assert run_cli(["check", "tiny.yaml", "--set", "dataset.feat_folder=shards"], folder) == of_files


def test_splits_and_missing_features(folder: Path) -> None:
    said = run_cli(["shard", "tiny.yaml", "a", "--split", "validation"], folder)
    assert "left out: subset(s) training (5)" in said
    assert "a: 3 recordings in 1 shard(s)" in said
    (folder / "data" / "features" / "rec6.npy").unlink()
    with pytest.raises(CommandLineError, match=r"1 recording\(s\) without features: 'rec6'; dataset.missing: skip"):
        run_cli(["shard", "tiny.yaml", "b"], folder)
    assert not (folder / "b").exists()
    said = run_cli(["shard", "tiny.yaml", "b", "--set", "dataset.missing=skip"], folder)
    assert "left out: 1 recording(s) without features: 'rec6'" in said
    assert "b: 7 recordings" in said


def test_float16_halves(folder: Path) -> None:
    run_cli(["shard", "tiny.yaml", "a"], folder)
    run_cli(["shard", "tiny.yaml", "b", "--dtype", "float16"], folder)
    rows = sum(len(np.load(path)) for path in (folder / "data" / "features").iterdir())
    indices = [json.loads((folder / name / "shards.json").read_text())["recordings"] for name in "ab"]
    assert [index["dtype"] for index in indices] == ["float32", "float16"]
    assert [sum(index["rows"]) for index in indices] == [rows, rows]


def test_the_same_command_again_changes_nothing(folder: Path) -> None:
    run_cli(["shard", "tiny.yaml", "s", "--size", "4K"], folder)
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "s").iterdir()}
    assert "8 recordings in 5 shard(s), 5 of them kept from before" in run_cli(
        ["shard", "tiny.yaml", "s", "--size", "4K"], folder
    )
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "s").iterdir()} == before


@pytest.mark.slow
def test_ctrl_c_says_so_and_leaves_nothing_half_done(folder: Path) -> None:
    code = (
        "import sys, time; from eventide.data import shard_writing; from eventide.cli import main;"
        "real = shard_writing._write_member\n"
        "def slow(*given):\n    real(*given); print('member', flush=True); time.sleep(0.2)\n"
        "shard_writing._write_member = slow\nmain(sys.argv[1:])"
    )
    words = ["shard", "tiny.yaml", "s", "--size", "4K"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it would be ignored
    )
    assert process.stdout is not None
    while process.stdout.readline() != "member\n":
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("error: interrupted")
    assert "Traceback" not in errors
    assert not [path for path in (folder / "s").iterdir() if path.suffix == ".tmp"]
    assert "recordings in" in run_cli(words, folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_with_shards_where_it_began_with_a_folder(folder: Path, workers: int) -> None:
    """Also a different number of loader processes: the weights are those of the run that was never stopped."""
    run_cli(["shard", "tiny.yaml", "shards", "--size", "4K"], folder)
    every = tiny_config(folder, train_cfg={"keep_checkpoints": 20})
    whole = run_training(folder, every, "whole", checkpoint_steps=2).folder
    config = tiny_config(folder, dataset={"feat_folder": str(folder / "shards")}, loader={"num_workers": workers})
    first = whole.path / "checkpoints" / "step_00000002.pt"
    resumed = run_training(folder, config, "resumed", resume=str(first)).folder
    tensors, again = (load_model(found.path / "last.safetensors").tensors for found in (whole, resumed))
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())
