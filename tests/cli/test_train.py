"""`python train.py`: the command from start to end, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventide.engine.run_folder import RunFolder
from eventide.types import UsageError
from tests.conftest import RunCli
from tests.engine.making import tiny_config, write_config, write_data


@pytest.mark.slow
def test_train_in_a_process_of_its_own(tmp_path: Path, run_train: RunCli) -> None:
    write_data(tmp_path)
    config = write_config(tmp_path, tiny_config(tmp_path, opt={"epochs": 1, "warmup_epochs": 1}))
    words = [config, "--output", "first", "--set", "test_cfg.max_seg_num=50", "opt.weight_decay=0", "--print-freq", "2"]
    done = run_train(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "epoch 2/2, step 6/6" in done.stdout
    assert "average" in done.stdout
    run = tmp_path / "runs" / "tiny_first"
    assert "max_seg_num: 50" in (run / "config.yaml").read_text()
    assert (run / "best.safetensors").exists()
    assert (run / "train.log").read_text() == done.stdout


@pytest.mark.parametrize(
    ("label", "config", "name", "folder"),
    [
        ("with a name", "configs/demo.yaml", "run", "ckpt/demo_run"),
        ("without", "configs/demo.yaml", None, "ckpt/demo"),
        ("two dots", "a.b.yaml", "x", "ckpt/a.b_x"),
    ],
)
def test_where_a_run_lies(label: str, config: str, name: str | None, folder: str) -> None:
    assert RunFolder.named("ckpt", Path(config), name).path == Path(folder)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\0"])
def test_names_that_are_no_folder_names(name: str) -> None:
    with pytest.raises(UsageError, match="give a plain name"):
        RunFolder.named("ckpt", Path("c.yaml"), name)
