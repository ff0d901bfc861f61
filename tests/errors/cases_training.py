"""What can go wrong while a training runs: memory, numbers, disks and data that go away."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from eventide.engine import checkpoint_writer, fit, model_keeper
from eventide.engine.gradients import StepGradients
from eventide.types import EventideError
from tests.engine.making import run_training, tiny_config, write_data
from tests.errors.error_case import ErrorCase

SHORT = {"epochs": 2, "warmup_epochs": 0}


def train(folder: Path, **changes: dict[str, Any]) -> None:
    """Two epochs of three steps, a checkpoint after each, an evaluation at the end."""
    if not (folder / "data").exists():
        write_data(folder)
    run_training(folder, tiny_config(folder, opt=SHORT, **changes), "run", eval_freq=0, print_freq=1000)


def after_step(step: int, work: Callable[[Path], object], **changes: dict[str, Any]) -> Callable[[Path], object]:
    """Train, and let something happen after a step."""
    original = fit.Trainer._show_bar

    def run(folder: Path) -> None:
        def show(self: fit.Trainer) -> None:
            original(self)
            self.writer.wait()
            if self.state.counters.step == step:
                work(folder)

        with mock.patch.object(fit.Trainer, "_show_bar", show):
            train(folder, **changes)

    return run


def without_memory(step: int, most: int, **changes: dict[str, Any]) -> Callable[[Path], object]:
    """From a step on there is memory for so many sequences."""
    original = StepGradients._objective

    def objective(self: StepGradients, sums: Any) -> Any:
        if self.state.counters.step >= step and self.work[1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self, sums)

    def run(folder: Path) -> None:
        with mock.patch.object(StepGradients, "_objective", objective):
            train(folder, **changes)

    return run


def evaluation_without_memory(folder: Path) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with mock.patch.object(fit, "detect_dataset", side_effect=error):
        train(folder)


def infinite_loss(folder: Path) -> None:
    original = StepGradients._objective

    def objective(self: StepGradients, sums: Any) -> Any:
        return original(self, sums) * (float("nan") if self.state.counters.step >= 3 else 1.0)

    with mock.patch.object(StepGradients, "_objective", objective):
        train(folder, train_cfg={"max_bad_steps": 2})


def full_disk(checkpoints: bool, models: bool) -> Callable[[Path], object]:
    """From the second checkpoint on there is no room for some of the files."""
    save_checkpoint, save_model = checkpoint_writer.save_checkpoint, model_keeper.save_model

    def checkpoint(path: Path, *arguments: Any) -> None:
        if checkpoints and path.name != "step_00000003.pt":
            raise EventideError(f"{path}: cannot be written: No space left on device")
        save_checkpoint(path, *arguments)

    def model(path: Path, *arguments: Any) -> None:
        if models:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_model(path, *arguments)

    def run(folder: Path) -> None:
        with (
            mock.patch.object(checkpoint_writer, "save_checkpoint", checkpoint),
            mock.patch.object(model_keeper, "save_model", model),
        ):
            train(folder)

    return run


def output_is_a_file(folder: Path) -> None:
    (folder / "runs").write_text("notes")
    train(folder)


def case(label: str, how: str, run: Callable[[Path], object], message: str, exit_code: int = 1) -> ErrorCase:
    return ErrorCase(label, how, run, message, exit_code)


CASES: list[ErrorCase] = [
    case(
        "training out of memory",
        "trained with batches that do not fit into memory",
        without_memory(0, 1),
        r"out of memory in training with 2 sequence.*use_flash_attn.*auto_microbatch.*No checkpoint was written yet",
    ),
    case(
        "training out of memory, later",
        "met longer recordings that do not fit in the middle of a training",
        without_memory(4, 1),
        r"lower loader\.batch_size.*The last good checkpoint is .*step_00000003\.pt",
    ),
    case(
        "one sequence too long",
        "trained with `train_cfg.auto_microbatch`, and not even one sequence fits",
        without_memory(0, 0, train_cfg={"auto_microbatch": True}),
        r"with 1 sequence\(s\).*lower dataset\.max_seq_len\. No checkpoint",
    ),
    case(
        "evaluation out of memory",
        "trained with an evaluation that does not fit into memory",
        evaluation_without_memory,
        r"out of memory in evaluation.*test_cfg\.batch_size.*step_00000006\.pt",
    ),
    case(
        "loss not finite",
        "trained with a learning rate that makes the loss NaN",
        infinite_loss,
        r"2 steps in a row.*Reduce learning rate, check gradient clipping.*step_00000003\.pt",
    ),
    case(
        "disk full",
        "trained on while the disk was full",
        full_disk(checkpoints=True, models=True),
        r"the training is done, but.*last\.safetensors: .*best\.safetensors: .*step_00000006\.pt: .*--resume auto",
    ),
    case(
        "disk full for checkpoints",
        "trained on while there was room for models, but not for checkpoints",
        full_disk(checkpoints=True, models=False),
        r"could be written: \S*step_00000006\.pt: cannot be written: No space left.*step_00000003\.pt: make room",
    ),
    case(
        "run folder gone",
        "lost the mount of the run's folder in the middle of a training",
        after_step(4, lambda folder: shutil.rmtree(folder / "runs")),
        r"the folder DIR/runs/tiny_run is gone.*the folder DIR/runs/tiny_run/checkpoints is gone",
    ),
    case(
        "features gone",
        "lost the mount of the features in the middle of a training",
        after_step(4, lambda folder: shutil.rmtree(folder / "data" / "features")),
        r"features/rec\d\.npy.*The last good checkpoint is .*step_00000003\.pt\. Mend it, then go on",
    ),
    case(
        "output folder is a file",
        "named a file as `output_folder`",
        output_is_a_file,
        r"cannot make the folder DIR/runs/tiny_run: Not a directory",
        2,
    ),
]
