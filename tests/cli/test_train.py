"""`python train.py`: the command from start to end, in a process of its own."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import RunCli
from tests.engine.making import tiny_config, write_config, write_data


def test_train_resume_and_refuse(tmp_path: Path, run_train: RunCli) -> None:
    write_data(tmp_path)
    config = write_config(tmp_path, tiny_config(tmp_path, opt={"epochs": 1, "warmup_epochs": 1}))
    words = [config, "--output", "first", "--set", "test_cfg.max_seg_num=50", "--print-freq", "2"]
    done = run_train(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2, step 6/6" in done.stdout
    assert "average" in done.stdout
    run = tmp_path / "runs" / "tiny_first"
    assert "max_seg_num: 50" in (run / "config.yaml").read_text()
    assert (run / "best.safetensors").exists()
    refused = run_train(words, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "already holds a run" in refused.stderr
    again = run_train([*words, "--resume", "auto"], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "going on from" in again.stdout


def test_without_a_name_the_folder_is_the_configurations(tmp_path: Path, run_train: RunCli) -> None:
    write_data(tmp_path)
    config = write_config(tmp_path, tiny_config(tmp_path, opt={"epochs": 1, "warmup": False}))
    assert run_train([config, "--eval-freq", "0"], cwd=tmp_path).returncode == 0
    assert (tmp_path / "runs" / "tiny" / "last.safetensors").exists()
