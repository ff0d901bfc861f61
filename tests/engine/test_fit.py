"""Training end to end on a tiny model: what is written, that it repeats to the bit, and that it resumes to the bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.engine import fit, setup
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.gradients import StepGradients
from eventide.engine.model_file import load_model
from eventide.types import EventideError, UsageError
from tests.engine.making import all_tensors, run_training, tiny_config

ACCUMULATE = {"accum_steps": 2, "droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0}
SPEED = ("steps_per_second", "waiting_share")


def final_state(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint of a run."""
    return all_tensors(load_checkpoint(list_checkpoints(run / "checkpoints")[0]))


def assert_same_run(run: Path, other: Path) -> None:
    """Same final weights, averages, optimiser state and counters, same best model, same log but for speeds."""
    first, second = final_state(run), final_state(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    contents = [load_checkpoint(list_checkpoints(folder / "checkpoints")[0]) for folder in (run, other)]
    assert contents[0]["counters"] == contents[1]["counters"]
    for name in ("best.safetensors", "last.safetensors"):
        best, again = load_model(run / name).tensors, load_model(other / name).tensors
        assert all(torch.equal(tensor, again[key]) for key, tensor in best.items())
    assert entries(run) == entries(other)


def entries(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in SPEED} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path) -> Path:
    """A run of 4 epochs of 3 steps that nothing disturbs."""
    return run_training(tiny_data, tiny_config(tiny_data), "undisturbed", print_freq=5).folder.path


def test_a_run_leaves_what_it_promises(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    wanted = {"config.yaml", "checkpoints", "best.safetensors", "last.safetensors", "metrics.jsonl", "train.log"}
    assert wanted <= names
    assert not list(undisturbed.rglob("*.tmp"))
    assert list((undisturbed / "tensorboard").iterdir())
    kinds = [(line["kind"], line["step"]) for line in entries(undisturbed)]
    assert kinds == [("train", 5), ("evaluation", 6), ("train", 10), ("train", 12), ("evaluation", 12)]
    log = (undisturbed / "train.log").read_text()
    assert "epoch 2/4, step 5/12" in log
    assert "average" in log
    assert [path.name for path in list_checkpoints(undisturbed / "checkpoints")] == [
        "step_00000012.pt",
        "step_00000009.pt",
        "step_00000006.pt",
    ]


def test_the_same_seed_gives_the_same_run(tiny_data: Path, undisturbed: Path) -> None:
    again = run_training(tiny_data, tiny_config(tiny_data), "again", print_freq=5).folder.path
    assert_same_run(undisturbed, again)


def test_another_seed_gives_another_run(tiny_data: Path, undisturbed: Path) -> None:
    config = tiny_config(tiny_data).model_copy(update={"seed": 8})
    other = final_state(run_training(tiny_data, config, "other seed", print_freq=5).folder.path)
    assert any(not torch.equal(tensor, other[name]) for name, tensor in final_state(undisturbed).items())


class StoppedError(Exception):
    """Stands for the end of a process."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the next training die after `step` optimiser steps, as if its process was killed."""
    original = fit.Trainer._stop_if_asked

    def stop(self: fit.Trainer) -> None:
        if self.state.counters.step >= step:
            raise StoppedError
        original(self)

    monkeypatch.setattr(fit.Trainer, "_stop_if_asked", stop)


STEPS = [(1, step) for step in (1, 2, 3, 4, 6, 7, 11, 12)] + [(2, step) for step in (1, 2, 5, 8)]


@pytest.fixture(scope="module")
def accumulated(tiny_data: Path) -> Path:
    """As `undisturbed`, with two micro-batches per step: the second step of an epoch has only one left."""
    config = tiny_config(tiny_data, train_cfg=ACCUMULATE)
    return run_training(tiny_data, config, "accumulated", print_freq=5).folder.path


@pytest.mark.parametrize(("accum", "step"), STEPS)
def test_a_run_resumes_to_the_bit_from_any_step(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Path,
    accumulated: Path,
    accum: int,
    step: int,
) -> None:
    config = tiny_config(tiny_data, **({"train_cfg": ACCUMULATE} if accum == 2 else {}))
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(StoppedError):
            run_training(tmp_path, config, "broken", print_freq=5, checkpoint_steps=1)
    resumed = run_training(tmp_path, config, "broken", print_freq=5, resume="auto")
    assert_same_run(accumulated if accum == 2 else undisturbed, resumed.folder.path)


def test_steps_after_the_last_checkpoint_are_done_again(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 8)  # the last checkpoint is that of step 6
        with pytest.raises(StoppedError):
            run_training(tmp_path, tiny_config(tiny_data), "late", print_freq=5)
    assert_same_run(
        undisturbed, run_training(tmp_path, tiny_config(tiny_data), "late", print_freq=5, resume="auto").folder.path
    )


def test_resume_auto_starts_afresh_where_nothing_is(tiny_data: Path, tmp_path: Path, undisturbed: Path) -> None:
    assert_same_run(
        undisturbed, run_training(tmp_path, tiny_config(tiny_data), "new", print_freq=5, resume="auto").folder.path
    )


def test_a_finished_run_may_be_resumed(tiny_data: Path, undisturbed: Path) -> None:
    before = final_state(undisturbed)
    again = final_state(run_training(tiny_data, tiny_config(tiny_data), "undisturbed", resume="auto").folder.path)
    assert all(torch.equal(tensor, again[name]) for name, tensor in before.items())


def test_what_the_check_of_the_data_finds_odd_is_said_once(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_config(tiny_data).dataset.model_dump()
    config = tiny_config(tiny_data, dataset={**settings, "num_classes": 3}, opt={"epochs": 1, "warmup_epochs": 0})
    run = run_training(tmp_path, config, "odd").folder.path
    for text in (capsys.readouterr().out, (run / "train.log").read_text()):
        warnings = [line for line in text.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == 1
        assert "1 class(es) without examples in training: 2;" in warnings[0]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tiny_data: Path, tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_training(tmp_path, tiny_config(tiny_data), "damaged", print_freq=5).folder.path
    newest = list_checkpoints(run / "checkpoints")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_same_run(
        undisturbed, run_training(tmp_path, tiny_config(tiny_data), "damaged", print_freq=5, resume="auto").folder.path
    )
    said = capsys.readouterr().out
    assert "step_00000012.pt cannot be read" in said
    assert "going on from" in said
    assert "step_00000009.pt" in said


def test_harmless_changes_do_not_matter(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        with pytest.raises(StoppedError):
            run_training(tmp_path, tiny_config(tiny_data), "workers", print_freq=5, checkpoint_steps=1)
    config = tiny_config(tiny_data, loader={"num_workers": 1})
    assert_same_run(undisturbed, run_training(tmp_path, config, "workers", print_freq=5, resume="auto").folder.path)


@pytest.mark.parametrize(
    ("label", "changes", "message"),
    [
        ("rate", {"opt": {"learning_rate": 0.02}}, r"opt\.learning_rate was 0\.01 and is now 0\.02"),
        ("batch", {"loader": {"batch_size": 1}}, r"loader\.batch_size was 2 and is now 1"),
        ("backbone", {"model": {"backbone_type": "conv"}}, "convTransformer.*conv;.*not interchangeable.*is missing"),
    ],
)
def test_a_changed_configuration_is_refused(
    tiny_data: Path, undisturbed: Path, label: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EventideError, match=message):
        run_training(tiny_data, tiny_config(tiny_data, **changes), "undisturbed", resume="auto")


def test_a_folder_that_holds_a_run_is_refused(tiny_data: Path, undisturbed: Path) -> None:
    with pytest.raises(UsageError, match=r"already holds a run.*--resume auto"):
        run_training(tiny_data, tiny_config(tiny_data), "undisturbed")


def test_resume_from_the_path_of_a_checkpoint_or_run(tiny_data: Path, tmp_path: Path, undisturbed: Path) -> None:
    middle = undisturbed / "checkpoints" / "step_00000006.pt"
    for number, path in enumerate((middle, undisturbed)):
        run = run_training(
            tmp_path, tiny_config(tiny_data), f"from{number}", print_freq=5, resume=str(path)
        ).folder.path
        first, second = final_state(undisturbed), final_state(run)
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_saves_a_checkpoint_and_the_run_goes_on(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: Path,
    number: signal.Signals,
    ending: type[BaseException],
) -> None:
    original = fit.Trainer._show_bar

    def send(self: fit.Trainer) -> None:
        original(self)
        if self.state.counters.step == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Trainer, "_show_bar", send)
        with pytest.raises(ending) as caught:
            run_training(tmp_path, tiny_config(tiny_data), "signal", print_freq=5)
    assert not isinstance(caught.value, SystemExit) or caught.value.code == 0
    run = tmp_path / "runs" / "tiny_signal"
    assert list_checkpoints(run / "checkpoints")[0].name == "step_00000005.pt"
    assert "step_00000005.pt; go on with --resume auto" in (run / "train.log").read_text()
    assert_same_run(
        undisturbed, run_training(tmp_path, tiny_config(tiny_data), "signal", print_freq=5, resume="auto").folder.path
    )


def test_loader_processes_that_die_with_the_signal_do_no_harm(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    original = fit.training_steps

    def dying(*words: Any, **options: Any) -> Any:
        for number, batch in enumerate(original(*words, **options)):
            if number == 4:
                os.kill(os.getpid(), signal.SIGTERM)
                raise EventideError("a loader process was killed")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(fit, "training_steps", dying)
        with pytest.raises(SystemExit):
            run_training(tmp_path, tiny_config(tiny_data), "group", print_freq=5)
    resumed = run_training(tmp_path, tiny_config(tiny_data), "group", print_freq=5, resume="auto")
    assert_same_run(undisturbed, resumed.folder.path)


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the loss of these optimiser steps NaN."""
    original = StepGradients.compute

    def compute(self: StepGradients, *words: Any) -> Any:
        losses = original(self, *words)
        if self.state.counters.step in steps:
            next(iter(self.state.detector.parameters())).grad[0] = float("nan")
        return losses

    monkeypatch.setattr(StepGradients, "compute", compute)


def test_a_step_that_is_not_finite_changes_nothing(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, {4, 5, 8})
    trainer = run_training(tmp_path, tiny_config(tiny_data), "bad", print_freq=1)
    counters = trainer.state.counters
    assert (counters.step, counters.bad_total, counters.bad_in_a_row) == (12, 3, 0)
    assert trainer.state.average.updates == 9
    assert all(torch.isfinite(tensor).all() for tensor in all_tensors(trainer.state.state_dict()).values())
    assert (
        "warning: step 5: loss or gradient is not finite, step skipped (1 in a row); recordings: rec"
        in capsys.readouterr().out
    )
    losses = [line["final_loss"] for line in entries(trainer.folder.path) if "final_loss" in line]
    assert len(losses) == 9


def test_too_many_bad_steps_stop_the_run(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(4, 100)))
    config = tiny_config(tiny_data, train_cfg={"max_bad_steps": 3})
    with pytest.raises(EventideError) as caught:
        run_training(tmp_path, config, "stopped")
    message = str(caught.value)
    assert "3 steps in a row" in message
    assert "'rec" in message
    assert "Reduce learning rate, check gradient clipping" in message
    assert "step_00000006.pt" in message
    assert "error: training stopped" in (tmp_path / "runs" / "tiny_stopped" / "train.log").read_text()


def test_out_of_memory_gives_advice(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(StepGradients, "_sums", forward)
    with pytest.raises(EventideError, match="Enable Flash Attention, reduce batch size"):
        run_training(tmp_path, tiny_config(tiny_data), "memory")


def test_float16_scales_its_loss_and_resumes_to_the_bit(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "choose_precision", lambda device, amp: ("16-mixed", ""))
    whole = run_training(tmp_path, tiny_config(tiny_data), "half", print_freq=5, amp=True)
    assert whole.state.scaler is not None
    assert whole.state.scaler.get_scale() <= 65536
    assert whole.state.average.updates >= 6
    assert torch.isfinite(whole.state.losses.sums if whole.state.losses.sums is not None else torch.zeros(1)).all()
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(StoppedError):
            run_training(tmp_path, tiny_config(tiny_data), "broken", print_freq=5, amp=True, checkpoint_steps=1)
    resumed = run_training(tmp_path, tiny_config(tiny_data), "broken", print_freq=5, amp=True, resume="auto")
    assert_same_run(whole.folder.path, resumed.folder.path)
    assert whole.state.scaler.state_dict() == resumed.state.scaler.state_dict()  # type: ignore[union-attr]


def test_mixed_precision_trains(tiny_data: Path, tmp_path: Path) -> None:
    trainer = run_training(tmp_path, tiny_config(tiny_data), "amp", amp=True)
    assert trainer.state.counters.step == 12
    assert all(tensor.dtype == torch.float32 for tensor in trainer.state.average.module.state_dict().values())
    with pytest.raises(EventideError, match="--amp was on and is off"):
        run_training(tmp_path, tiny_config(tiny_data), "amp", resume="auto")


def test_the_averaged_model_teaches_late_steps_only(tiny_data: Path, undisturbed: Path, tmp_path: Path) -> None:
    """A share changes the run, but no step of its first tenth (12 steps: the first two)."""
    config = tiny_config(tiny_data, train_cfg={"teacher_share": 0.5})
    folder = run_training(tiny_data, config, "taught", print_freq=1).folder
    assert any(
        not torch.equal(tensor, final_state(folder.path)[name]) for name, tensor in final_state(undisturbed).items()
    )
    plain = run_training(tiny_data, tiny_config(tiny_data), "untaught", print_freq=1).folder
    pairs = zip(entries(plain.path), entries(folder.path), strict=True)
    losses = [(ours["final_loss"], theirs["final_loss"]) for ours, theirs in pairs if ours["kind"] == "train"]
    assert all(ours == theirs for ours, theirs in losses[:2])
    assert any(ours != theirs for ours, theirs in losses[2:])


def steps_kept(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step_")) for path in list_checkpoints(run / "checkpoints"))


def test_checkpoints_by_steps_are_written_at_the_end_of_an_epoch_too(tiny_data: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_data, train_cfg={"keep_checkpoints": 100})
    run = run_training(tmp_path, config, "steps", checkpoint_epochs=100, checkpoint_steps=3).folder.path
    assert steps_kept(run) == [3, 6, 9, 12]
