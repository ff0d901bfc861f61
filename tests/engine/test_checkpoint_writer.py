"""A run whose files cannot be written any more goes on, keeps what it has, and says what is missing."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.engine import checkpoint_writer, fit
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.checkpoint_writer import CheckpointWriter, copied
from eventide.engine.model_file import load_model, stored_score
from eventide.engine.world import World
from eventide.types import EventideError
from tests.engine.making import fill, run_training, tiny_config, write_data
from tests.engine.several.pool import Pool

CONTENT = {"model": {"weight": torch.arange(6.0)}, "step": 3}


def step_path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.pt"


@pytest.mark.parametrize("background", [True, False])
def test_failures_are_said_once_and_the_next_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    said: list[str] = []
    original = checkpoint_writer.save_checkpoint
    trouble: list[Exception | None] = [None]

    def save(path: Path, content: Any, keep: int) -> None:
        if trouble[0] is not None:
            raise trouble[0]
        original(path, content, keep)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    with closing(CheckpointWriter(2, background, said.append)) as writer:
        writer.write(step_path(tmp_path, 1), CONTENT)
        for step, error in enumerate(
            (
                EventideError(f"{step_path(tmp_path, 2)}: cannot be written: No space left on device"),
                EventideError(f"{step_path(tmp_path, 3)}: cannot be written: No space left on device"),
                RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed\nframe #0"),
                PermissionError(13, "Permission denied", "old"),
            ),
            2,
        ):
            writer.wait()
            trouble[0] = error
            writer.write(step_path(tmp_path, step), CONTENT)
        writer.wait()
        assert writer.last == step_path(tmp_path, 1)
        assert len(said) == 3
        assert "step_00000002.pt: cannot be written: No space left on device; training goes on, the last" in said[0]
        assert "step_00000001.pt" in said[0]
        assert "step_00000004.pt: cannot be written: [enforce fail" in said[1]
        assert "frame" not in said[1]
        assert "Permission denied" in said[2]
        with pytest.raises(EventideError, match=r"no checkpoint: .*make room or mend the folder.*--resume auto"):
            writer.finish()
        trouble[0] = None
        writer.write(step_path(tmp_path, 6), CONTENT)
        writer.finish()
        assert said[3:] == [f"checkpoints are written again: {step_path(tmp_path, 6)}"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000006.pt", "step_00000001.pt"]


def test_without_any_checkpoint_it_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    writer = CheckpointWriter(2, True, said.append)
    writer.write(step_path(tmp_path / "gone", 1), CONTENT)
    with pytest.raises(EventideError, match=r"the folder .*gone is gone\. There is none: make room"):
        writer.finish()
    assert not (tmp_path / "gone").exists()  # it may be where a mount was
    assert len(said) == 1
    assert "there is none yet" in said[0]


def test_a_mistake_in_the_thread_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    writer = CheckpointWriter(2, True, print)
    writer.write(step_path(tmp_path, 1), CONTENT)
    with pytest.raises(TypeError, match="a mistake"):
        writer.wait()
    writer.close()


def test_one_copy_at_a_time_and_none_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def noted(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return copied(value)
        found = {key: copied(item) for key, item in value.items()}
        alive.append(weakref.ref(found["weight"]))
        gc.collect()
        assert sum(reference() is not None for reference in alive) == 1
        return found

    monkeypatch.setattr(checkpoint_writer, "copied", noted)
    writer = CheckpointWriter(1, True, print)
    for step in range(1, 6):
        writer.write(step_path(tmp_path, step), {"weight": torch.ones(4)})
    writer.wait()
    gc.collect()
    assert len(alive) == 5
    assert all(reference() is None for reference in alive)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005.pt"]


def test_what_changes_after_write_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    original = checkpoint_writer.save_checkpoint

    def save(*arguments: Any) -> None:
        assert go.wait(60)
        original(*arguments)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    weight = torch.zeros(3)
    writer = CheckpointWriter(1, True, print)
    writer.write(step_path(tmp_path, 1), {"weights": [weight]})
    weight += 1
    go.set()
    writer.finish()
    stored = torch.load(step_path(tmp_path, 1), weights_only=True)
    assert stored["weights"][0].tolist() == [0, 0, 0]


def disturb(monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], object]]) -> None:
    """Let things happen after these steps."""
    original = fit.Trainer._show_bar

    def show(self: fit.Trainer) -> None:
        original(self)
        self.writer.wait()
        events.get(self.state.counters.step, lambda: None)()

    monkeypatch.setattr(fit.Trainer, "_show_bar", show)


def test_a_run_on_a_full_disk(
    tiny_data: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full from step 4 to the end: 12 steps, checkpoints after 3, 6, 9 and 12, evaluations after 6 and 12."""
    expected = run_training(tiny_data, tiny_config(tiny_data), "roomy").folder
    capsys.readouterr()
    with monkeypatch.context() as patch:
        disturb(patch, {4: lambda: fill(small_disk)})
        with pytest.raises(EventideError) as caught:
            run_training(small_disk, tiny_config(tiny_data), "full", print_freq=1)
    run = small_disk / "runs" / "tiny_full"
    message = str(caught.value)
    assert message.startswith("the training is done, but not all of it could be written: ")
    for name in ("last.safetensors", "best.safetensors", "step_00000012.pt"):
        assert f"{name}: cannot be written: No space left on device" in message
    assert "step_00000003.pt: make room or mend the folder, then run the same command with --resume auto" in message
    said = capsys.readouterr().out
    assert said.count("warning: no checkpoint: ") == 1
    assert said.count("warning: the best model is not kept yet: ") == 1
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step_00000003.pt"]
    assert not list(run.rglob("*.tmp"))
    (small_disk / "filler").unlink()
    resumed = run_training(small_disk, tiny_config(tiny_data), "full", resume="auto").folder
    for name in ("best", "last"):
        ours, theirs = load_model(getattr(resumed, name)), load_model(getattr(expected, name))
        assert all(torch.equal(tensor, theirs.tensors[key]) for key, tensor in ours.tensors.items())


def test_room_in_time_and_nothing_is_missing(
    tiny_data: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best model, of the first evaluation, waits in memory: the second, which is not better, writes it."""
    original = fit.score
    scores = iter((0.9, 0.1))

    def worse(*arguments: Any, **options: Any) -> Any:
        metrics = original(*arguments, **options)
        monkeypatch.setattr(type(metrics), "average_mAP", next(scores), raising=False)
        return metrics

    monkeypatch.setattr(fit, "score", worse)
    disturb(monkeypatch, {4: lambda: fill(small_disk), 8: (small_disk / "filler").unlink})
    run = run_training(small_disk, tiny_config(tiny_data), "in time", print_freq=1)
    said = capsys.readouterr().out
    assert f"the best model is kept again: {run.folder.best}" in said
    assert "checkpoints are written again: " in said
    assert stored_score(run.folder.best) == 0.9
    counters = load_checkpoint(list_checkpoints(run.folder.checkpoints)[0])["counters"]
    assert (counters["best_metric"], counters["best_epoch"], counters["evaluated_epoch"]) == (0.9, 2, 4)
    best, last = load_model(run.folder.best).tensors, load_model(run.folder.last).tensors
    assert any(not torch.equal(tensor, last[name]) for name, tensor in best.items())
    entries = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    assert [entry["step"] for entry in entries if entry["kind"] == "train"] == list(range(1, 13))


def test_a_best_model_that_was_not_written_is_evaluated_again(tiny_data: Path, small_disk: Path) -> None:
    """Only the models do not fit; the checkpoint of the end does, and knows that the evaluation is to be done again."""
    original = checkpoint_writer.refuse_gone_folder

    def refuse(path: Path) -> None:
        if path.suffix == ".safetensors":
            raise EventideError(f"{path}: cannot be written: for this test")
        original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventide.engine.model_keeper.refuse_gone_folder", refuse)
        with pytest.raises(EventideError, match=r"best\.safetensors: cannot be written: for this test"):
            run_training(small_disk, tiny_config(tiny_data), "models", eval_freq=0)
    run = run_training(small_disk, tiny_config(tiny_data), "models", eval_freq=0, resume="auto").folder
    expected = run_training(tiny_data, tiny_config(tiny_data), "all models", eval_freq=0).folder
    assert stored_score(run.best) == stored_score(expected.best)
    kinds = [json.loads(line)["kind"] for line in run.metrics.read_text().splitlines()]
    assert kinds.count("evaluation") == 1


@pytest.mark.parametrize("background", [True, False])
def test_a_run_whose_folder_goes_away(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    """As a mount does: nothing is written in its place, and what comes back gets all that is written from then on."""
    run = tmp_path / "runs" / "tiny_gone"
    backgrounds = {"async_checkpoints": background, "droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0}
    with monkeypatch.context() as patch:
        disturb(patch, {4: lambda: run.rename(tmp_path / "away")})
        with pytest.raises(EventideError) as caught:
            run_training(tmp_path, tiny_config(tiny_data, train_cfg=backgrounds), "gone", print_freq=1)
    message = str(caught.value)
    assert f"the folder {run / 'checkpoints'} is gone" in message
    assert "last.safetensors: cannot be written: the folder" in message
    assert not run.exists()
    (tmp_path / "away").rename(run)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step_00000003.pt"]
    resumed = run_training(tmp_path, tiny_config(tiny_data, train_cfg=backgrounds), "gone", resume="auto")
    assert resumed.folder.best.is_file()


def test_a_read_only_file_system(tiny_data: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remounted in the middle, as Linux does by itself after an error of the disk."""

    def remount() -> None:
        for name in ("metrics.jsonl", "train.log"):
            assert (small_disk / "runs" / "tiny_frozen" / name).exists()
        frozen[0] = True

    frozen = [False]
    original_open, original_write = os.open, os.write

    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if frozen[0] and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(small_disk)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return original_open(path, flags, *rest, **options)

    def write(handle: int, data: Any) -> int:
        if frozen[0] and os.readlink(f"/proc/self/fd/{handle}").startswith(str(small_disk)):
            raise OSError(errno.EROFS, "Read-only file system")
        return original_write(handle, data)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "write", write)
    disturb(monkeypatch, {4: remount})
    with pytest.raises(EventideError, match=r"not all of it could be written: .*Read-only file system"):
        run_training(small_disk, tiny_config(tiny_data), "frozen", print_freq=1)
    monkeypatch.undo()
    run = small_disk / "runs" / "tiny_frozen"
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step_00000003.pt"]


def stopped_with_a_full_disk(world: World, folder: Path, backbone: str, resume: str | None) -> tuple[str, str]:
    """Train in several processes until the folder goes away in the middle; how this process ends."""
    run = folder / "runs" / "tiny_several"
    original = fit.Trainer._show_bar

    def show(self: fit.Trainer) -> None:
        original(self)
        if self.state.counters.step == 2 and world.is_first:
            self.writer.wait()
            shutil.rmtree(run / "checkpoints")

    from eventide.engine.fit import FitOptions
    from eventide.engine.run_folder import RunFolder
    from eventide.engine.setup import train

    config = tiny_config(folder, model={"backbone_type": backbone}, opt={"epochs": 2, "warmup_epochs": 0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Trainer, "_show_bar", show)
        try:
            train(config, RunFolder(run), FitOptions(eval_freq=0, checkpoint_steps=1, resume=resume), world)
        except EventideError as error:
            return type(error).__name__, str(error)
    return "none", ""


@pytest.mark.slow
def test_several_processes_end_the_same_way_and_one_says_why(tmp_path: Path) -> None:
    write_data(tmp_path)
    with closing(Pool(2)) as pair:
        found = pair.run(stopped_with_a_full_disk, tmp_path, "convTransformer", None)
        assert [kind for kind, _ in found] == ["EventideError", "AlreadySaidError"]
        assert "not all of it could be written" in found[0][1]
        assert "is gone" in found[0][1]
        assert found[0][1] == found[1][1]
        assert (tmp_path / "runs" / "tiny_several" / "best.safetensors").is_file()


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused_once(tmp_path: Path) -> None:
    write_data(tmp_path)
    run_training(tmp_path, tiny_config(tmp_path, opt={"epochs": 1, "warmup_epochs": 0}), "several")
    with closing(Pool(2)) as pair:
        found = pair.run(stopped_with_a_full_disk, tmp_path, "convTransformerv2", "auto")
    assert [kind for kind, _ in found] == ["EventideError", "AlreadySaidError"]
    assert "v1 and v2 checkpoints are not interchangeable" in found[0][1]
    assert "process" not in found[0][1].split(":")[0]
