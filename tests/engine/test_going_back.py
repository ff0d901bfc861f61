"""Going on from a checkpoint that was named: the course it leaves is set aside, not lost and not followed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventide.config import Config
from eventide.engine import setup
from eventide.engine.checkpoint import list_checkpoints
from eventide.engine.model_file import stored_score
from eventide.engine.model_keeper import ModelKeeper
from eventide.engine.state import Counters
from eventide.types import EventideError
from tests.engine.making import run_training, tiny_config
from tests.engine.test_fit import StoppedError, steps_kept, stop_at


@pytest.fixture
def config(tiny_data: Path) -> Config:
    """4 epochs of 3 steps, a checkpoint after each, all kept."""
    return tiny_config(tiny_data, train_cfg={"keep_checkpoints": 100})


@pytest.fixture
def run(config: Config, tmp_path: Path) -> Path:
    """A finished run."""
    path = run_training(tmp_path, config, "run").folder.path
    assert steps_kept(path) == [3, 6, 9, 12]
    return path


def named(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step_{step:08d}.pt"


def in_place(run: Path, tmp_path: Path) -> Path:
    return named(run, 6)


def a_copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(named(run, 6), tmp_path / "kept.pt"))


@pytest.mark.parametrize(
    ("choose", "left", "aside"),
    [
        pytest.param(in_place, [3, 6, 7], [9, 12], id="one of the folder"),
        pytest.param(a_copy, [3, 6, 7], [9, 12], id="a copy of it elsewhere"),
    ],
)
def test_later_checkpoints_are_set_aside(
    config: Config,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    choose: Callable[[Path, Path], Path],
    left: list[int],
    aside: list[int],
) -> None:
    """Else `--resume auto` would go on from the course that was left."""
    contents = {step: named(run, step).read_bytes() for step in aside}
    path = choose(run, tmp_path)
    stop_at(monkeypatch, 7)
    with pytest.raises(StoppedError):
        run_training(tmp_path, config, "run", resume=str(path), checkpoint_steps=1)
    assert steps_kept(run) == left
    assert "set aside as *.aside" in capsys.readouterr().out
    for step, content in contents.items():
        assert Path(f"{named(run, step)}.aside").read_bytes() == content


def test_of_a_checkpoint_that_is_not_of_the_folder_all_are_another_course(
    config: Config, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run_training(tmp_path / "elsewhere", config, "run", checkpoint_steps=5).folder.path
    stop_at(monkeypatch, 6)
    with pytest.raises(StoppedError):
        run_training(tmp_path, config, "run", resume=str(named(other, 5)), checkpoint_steps=1)
    assert steps_kept(run) == [6]
    assert len(list((run / "checkpoints").glob("*.aside"))) == 4


def test_nothing_that_was_set_aside_is_overwritten(config: Config, run: Path, tmp_path: Path) -> None:
    first = named(run, 12).read_bytes()
    for _ in range(2):
        run_training(tmp_path, config, "run", resume=str(named(run, 6)), checkpoint_steps=1)
    aside = Path(f"{named(run, 12)}.aside")
    assert aside.read_bytes() == first
    assert aside.with_name(f"{aside.name}2").is_file()


def test_the_newest_one_leaves_nothing(config: Config, run: Path, tmp_path: Path) -> None:
    before = sorted(run.rglob("*.*"))
    run_training(tmp_path, config, "run", resume=str(named(run, 12)))
    assert list(run.rglob("*.aside*")) == []
    assert set(before) <= set(run.rglob("*.*"))


KEEP = ModelKeeper.evaluated


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[int, float]], None]:
    """Let evaluations have the scores of a table, by epoch."""

    def apply(scores: Mapping[int, float]) -> None:
        def evaluated(self: ModelKeeper, tensors: Any, metric: float, epoch: int, counters: Counters) -> None:
            KEEP(self, tensors, scores[epoch], epoch, counters)

        monkeypatch.setattr(ModelKeeper, "evaluated", evaluated)

    return apply


Scoring = Callable[[Mapping[int, float]], None]


def test_the_best_model_is_that_of_the_new_course(config: Config, tmp_path: Path, scoring: Scoring) -> None:
    scoring({1: 0.3, 2: 0.4, 3: 0.8, 4: 0.9})
    run = run_training(tmp_path, config, "run", eval_freq=1).folder.path
    last = (run / "last.safetensors").read_bytes()
    scoring({1: 0.3, 2: 0.35, 3: 0.2, 4: 0.1})
    trainer = run_training(tmp_path, config, "run", eval_freq=1, resume=str(named(run, 6)))
    assert trainer.state.counters.best_metric == 0.35
    assert stored_score(run / "best.safetensors") == 0.35
    assert stored_score(run / "best.safetensors.aside") == 0.9
    assert (run / "last.safetensors.aside").read_bytes() == last


@pytest.mark.parametrize("choose", [in_place, a_copy])
def test_a_best_model_that_the_checkpoint_knows_stays(
    config: Config, tmp_path: Path, scoring: Scoring, choose: Callable[[Path, Path], Path]
) -> None:
    scoring({1: 0.8, 2: 0.4, 3: 0.5, 4: 0.6})
    run = run_training(tmp_path, config, "run", eval_freq=1).folder.path
    trainer = run_training(tmp_path, config, "run", eval_freq=1, resume=str(choose(run, tmp_path)))
    assert trainer.state.counters.best_metric == 0.8
    assert stored_score(run / "best.safetensors") == 0.8


def test_stopped_before_its_next_checkpoint_the_new_course_knows_its_best(
    config: Config, tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest checkpoint still names the best of the course that was left."""
    scoring({1: 0.5, 2: 0.9, 3: 0.2, 4: 0.3})
    run = run_training(tmp_path, config, "run", eval_freq=1).folder.path
    scoring({1: 0.5, 2: 0.35, 3: 0.45, 4: 0.1})
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(StoppedError):
            run_training(tmp_path, config, "run", eval_freq=1, resume=str(named(run, 6)))
    assert steps_kept(run) == [3, 6]
    trainer = run_training(tmp_path, config, "run", eval_freq=1, resume="auto")
    assert stored_score(run / "best.safetensors") == trainer.state.counters.best_metric


def test_a_start_that_is_refused_sets_nothing_aside(
    config: Config, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise EventideError("other data")

    monkeypatch.setattr(setup, "_digest", refuse)
    with pytest.raises(EventideError, match="other data"):
        run_training(tmp_path, config, "run", resume=str(named(run, 6)))
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == [
        named(run, step).name for step in (12, 9, 6, 3)
    ]
