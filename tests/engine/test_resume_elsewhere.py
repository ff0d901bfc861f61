"""A run that goes on from a checkpoint of another folder: its best model, and the runs it must not mix with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eventide.engine.model_file import load_model
from eventide.types import UsageError
from tests.engine.making import run_training, tiny_config


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path) -> Path:
    """A run of 4 epochs of 3 steps."""
    return run_training(tiny_data, tiny_config(tiny_data), "whole", print_freq=5).folder.path


def test_a_run_that_goes_on_elsewhere_takes_its_best_model_along(
    tiny_data: Path, tmp_path: Path, undisturbed: Path
) -> None:
    config = tiny_config(tiny_data)
    run = run_training(tmp_path, config, "elsewhere", print_freq=5, resume=str(undisturbed)).folder.path
    assert (run / "best.safetensors").read_bytes() == (undisturbed / "best.safetensors").read_bytes()


def test_a_checkpoint_without_its_best_model_is_evaluated_again(
    tiny_data: Path, tmp_path: Path, undisturbed: Path
) -> None:
    lone = tmp_path / "lone.pt"
    lone.write_bytes((undisturbed / "checkpoints" / "step_00000012.pt").read_bytes())
    trainer = run_training(tmp_path, tiny_config(tiny_data), "from a lone one", print_freq=5, resume=str(lone))
    best = load_model(trainer.folder.best).tensors
    last = load_model(undisturbed / "last.safetensors").tensors
    assert all(torch.equal(tensor, best[name]) for name, tensor in last.items())
    assert trainer.state.counters.best_epoch == 4


def test_a_checkpoint_does_not_go_on_in_the_folder_of_another_run(
    tiny_data: Path, tmp_path: Path, undisturbed: Path
) -> None:
    run_training(tmp_path, tiny_config(tiny_data, opt={"epochs": 1, "warmup_epochs": 1}), "other")
    with pytest.raises(UsageError, match=r"holds another run than .*opt\.epochs was 1 and is now.*--output"):
        run_training(tmp_path, tiny_config(tiny_data), "other", resume=str(undisturbed))


def test_a_model_file_is_no_checkpoint_to_resume(tiny_data: Path, tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(UsageError, match="a model file has no state to train on from"):
        run_training(tmp_path, tiny_config(tiny_data), "model", resume=str(undisturbed / "best.safetensors"))
