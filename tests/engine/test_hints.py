"""Hints: said where something is clearly wrong, once, and not in a healthy or a tiny run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventide.engine import hints, meters
from eventide.engine.hints import ConvergenceHints, DataHint, highest_scores, silent_classes
from eventide.engine.meters import EpochMeter, EpochSums, LossMeter, Stopwatch, Window
from eventide.engine.schedule import Plan
from eventide.types import Detections, Recording
from tests.engine.making import run_training, tiny_config

PLAN = Plan(batches_per_epoch=50, batches_per_step=1, epochs=20, warmup_epochs=1)
WELL = EpochSums(steps=50, loss=1.0, hard_steps=0, learnt=[3, 5])


def said_by_data(windows: list[Window], workers: int = 2, processes: int = 1, cores: int = 16) -> list[str]:
    said: list[str] = []
    hint = DataHint(workers, processes, said.append, cores)
    for window in windows:
        hint.add(window)
    return said


START = Window(20, 100.0, 100.0)  # the first steps: they may wait as long as they like
WINDOWS = [
    pytest.param([], 0, id="nothing"),
    pytest.param([START], 0, id="the first steps"),
    pytest.param([Window(10, 40.0, 40.0)] * 2, 0, id="the first steps in two windows"),
    pytest.param([START, Window(50, 30.0, 9.0)], 1, id="30% of the time"),
    pytest.param([START, Window(50, 30.0, 8.9)], 0, id="just below"),
    pytest.param([START, Window(49, 300.0, 290.0)], 0, id="too few steps"),
    pytest.param([START, Window(5000, 29.9, 29.0)], 0, id="too short: a tiny run"),
    pytest.param([START, *[Window(10, 6.0, 3.0)] * 5], 1, id="added up over reports"),
    pytest.param([START, *[Window(50, 30.0, 15.0)] * 20], 1, id="once"),
    pytest.param([START, Window(50, 30.0, 12.0), Window(50, 30.0, 19.0)], 1, id="not much more"),
    pytest.param([START, Window(50, 30.0, 12.0), Window(50, 30.0, 19.6)], 2, id="much more"),
    pytest.param([START, Window(50, 30.0, 15.0), Window(50, 30.0, 0.0), Window(50, 30.0, 15.0)], 1, id="up and down"),
    pytest.param([START, Window(50, 30.0, 90.0)], 1, id="never over 100%"),
]


@pytest.mark.parametrize(("windows", "count"), WINDOWS)
def test_slow_data_is_noticed(windows: list[Window], count: int) -> None:
    assert len(said_by_data(windows)) == count


def test_what_is_said_of_slow_data() -> None:
    slow = [START, Window(60, 40.0, 25.0)]
    (text,) = said_by_data(slow)
    assert text.startswith("warning: slow training: steps waited for data 62% of the time (the last 60 steps, 40 s)")
    assert "Check data loading: raise loader.num_workers (now 2 for each of 1 process(es), 16 cores)" in text
    assert "SSD" in text
    assert "eventide shard" in text
    assert "set loader.num_workers to 2 or more" in said_by_data(slow, workers=0)[0]
    assert "more CPU cores, since" in said_by_data(slow, workers=4, processes=4)[0]


def test_the_stopwatch_counts_the_wait_of_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    watch = Stopwatch()
    for waited in (1.0, 3.0):
        with watch.waiting():
            now[0] += 1.0
        assert watch.last_wait == 1.0
        now[0] += 4.0
        watch.step(waited)
    with watch.paused():
        now[0] += 1000.0
    window = watch.read()
    assert window == Window(2, 10.0, 4.0)
    assert (window.rate, window.share) == (0.2, 0.4)
    assert watch.read().steps == 0


def said_by_epochs(epochs: list[EpochSums], first: int = 1, **changes: Any) -> list[str]:
    said: list[str] = []
    backbone = {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}
    model = {"backbone": backbone, "head_num_layers": 2, **changes.pop("model", {})}
    watcher = ConvergenceHints(
        tiny_config(Path("nowhere"), model=model), changes.pop("plan", PLAN), [("clap", 7), ("jump", 12)], said.append
    )
    for number, sums in enumerate(epochs, first):
        watcher.epoch(number, sums)
    return said


def losses(*values: float) -> list[EpochSums]:
    return [EpochSums(50, value, 0, [3, 5]) for value in values]


LOSSES = [
    pytest.param(losses(9, 8, 2, 1.9, 1.8, 1.7, 1.6, 1.5), "", id="falls"),
    pytest.param(losses(9, 8, 2, 2, 2, 2, 2), "", id="too early to say"),
    pytest.param(
        losses(9, 8, 2, 2, 2, 2, 2, 2), "has not fallen in 5 epochs (2 in epoch 3, at best 2 since)", id="flat"
    ),
    pytest.param(losses(9, 8, 2, 2, 2, 2, 2, 1.94), "", id="falls at last"),
    pytest.param(losses(9, 8, 2, 2, 2, 2, 2, 1.95), "has not fallen", id="hardly falls"),
    pytest.param(losses(9, 8, 2, 1, 1, 1, 1, 1.51), "rises: 1.51 in epoch 8, 1 before", id="rises"),
    pytest.param(losses(9, 8, 2, 1, 1, 1, 1, 1.5), "", id="rises a little"),
    pytest.param(losses(*[9] * 2, *[2] * 18), "has not fallen", id="said once"),
    pytest.param([EpochSums(1, 2.0, 0, [3, 5])] * 99, "", id="a tiny run"),
    pytest.param([EpochSums(0, float("nan"), 0, [])] * 20, "", id="no good step"),
]


@pytest.mark.parametrize(("epochs", "expected"), LOSSES)
def test_a_loss_that_does_not_fall(epochs: list[EpochSums], expected: str) -> None:
    said = said_by_epochs(epochs)
    assert len(said) == bool(expected)
    assert all(expected in text and "Check learning rate scaling" in text for text in said)
    assert all("SwiGLU" not in text for text in said)


def test_swiglu_is_named_where_it_is_used() -> None:
    epochs = losses(9, 8, *[2] * 6)
    (text,) = said_by_epochs(epochs, model={"backbone_type": "convTransformerv2"})
    assert "Check learning rate scaling" in text
    assert "try without SwiGLU (model.backbone.use_swiglu: false)" in text
    scaled = Plan(50, 8, 20, 1, rate_scale=8.0)
    (text,) = said_by_epochs(epochs, plan=scaled)
    assert "opt.learning_rate is 0.01, times 8 for the batches of a step; --no-lr-scaling" in text


GRADIENTS = [
    pytest.param([WELL] * 9, 0, id="healthy"),
    pytest.param([EpochSums(50, 1.0, 50, [3, 5])] * 2, 0, id="warm-up does not count"),
    pytest.param([EpochSums(50, 1.0, 50, [3, 5])] * 3, 1, id="all far above the limit"),
    pytest.param([EpochSums(50, 1.0, 45, [3, 5])] * 3, 1, id="nine in ten"),
    pytest.param([EpochSums(50, 1.0, 44, [3, 5])] * 5, 0, id="fewer"),
    pytest.param([EpochSums(9, 1.0, 9, [3, 5])] * 12, 0, id="fewer than 100 steps"),
    pytest.param([*[WELL] * 9, *[EpochSums(50, 1.0, 50, [3, 5])] * 2], 1, id="of late"),
]


@pytest.mark.parametrize(("epochs", "count"), GRADIENTS)
def test_gradients_that_are_clipped_to_nearly_nothing(epochs: list[EpochSums], count: int) -> None:
    falling = [EpochSums(e.steps, 9.0 * 0.8**n, e.hard_steps, e.learnt) for n, e in enumerate(epochs)]
    said = said_by_epochs(falling)
    assert len(said) == count
    assert all("over 10 times train_cfg.clip_grad_l2norm (1). Check learning rate scaling" in text for text in said)


CLASSES = [
    pytest.param([[1, 1]] * 5, "", id="all are learnt"),
    pytest.param([[1, 0]] * 2, "", id="too early"),
    pytest.param([[1, 0]] * 3, "'jump (12 events in training)'", id="never"),
    pytest.param([[1, 0], [0, 1], [1, 0]], "", id="now and then"),
    pytest.param([[0, 0]] * 3, "'clap (7 events in training)', 'jump (12 events in training)'", id="none at all"),
]


@pytest.mark.parametrize(("learnt", "expected"), CLASSES)
def test_a_class_that_is_never_learnt(learnt: list[list[int]], expected: str) -> None:
    said = said_by_epochs([EpochSums(3, 1.0, 0, counts) for counts in learnt])
    assert len(said) == bool(expected)
    assert all(expected in text and "in 3 epochs no position has learnt class(es)" in text for text in said)


def test_a_class_without_examples_is_not_missed() -> None:
    said: list[str] = []
    watcher = ConvergenceHints(tiny_config(Path("nowhere")), PLAN, [("clap", 7), ("jump", 0)], said.append)
    for number in range(1, 9):
        watcher.epoch(number, EpochSums(3, 1.0, 0, [4, 0]))
    assert said == []


def detections(*pairs: tuple[int, float]) -> Detections:
    labels, scores = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs])
    return Detections(np.zeros((len(pairs), 2)), scores, labels)


def recording(*labels: int) -> Recording:
    return Recording("a", "validation", None, None, np.zeros((len(labels), 2)), np.array(labels, int))


def test_the_highest_score_of_each_class_with_events() -> None:
    found = [detections((0, 0.2), (2, 0.9)), detections((0, 0.7), (0, 0.1)), detections()]
    assert highest_scores(found, [recording(0, 1, 1), recording()]) == {0: pytest.approx(0.7), 1: 0.0}
    assert highest_scores([], [recording()]) == {}
    assert silent_classes({0: 0.05, 3: 0.049, 1: 0.0}) == [1, 3]


def test_silent_classes_are_said_once_each_and_only_beside_sure_ones() -> None:
    said: list[str] = []
    watcher = ConvergenceHints(tiny_config(Path("nowhere")), PLAN, [("clap", 7), ("jump", 12)], said.append)
    for scores in ({}, {0: 0.01, 1: 0.01}, {0: 0.49, 1: 0.01}, {0: 0.9, 1: 0.06}):
        watcher.evaluation(scores)
    assert said == []
    for _ in range(3):
        watcher.evaluation({0: 0.9, 1: 0.04})
    assert len(said) == 1
    assert "no detection of class(es) 'jump (12 events in training)' scores 0.05 or more" in said[0]
    watcher.evaluation({0: 0.01, 1: 0.5})
    assert len(said) == 2
    assert "clap" in said[1]


def test_meters_count_and_are_restored() -> None:
    loss, epoch = LossMeter(), EpochMeter()
    assert (loss.read(), epoch.dead_classes()) == ({}, 0)
    for clipped, per_class in ((True, [2.0, 0.0, 1.0]), (False, [1.0, 0.0, 0.0])):
        loss.add(["a", "b"], torch.tensor([1.0, 4.0]), clipped)
        epoch.add(torch.tensor(3.0), torch.tensor(per_class), hard=clipped)
    assert epoch.dead_classes() == 1
    again, other = LossMeter(), EpochMeter()
    again.load_state_dict(loss.state_dict(), torch.device("cpu"))
    other.load_state_dict(epoch.state_dict(), torch.device("cpu"))
    assert again.read() == loss.read() == {"a": 1.0, "b": 4.0, "clipped_share": 0.5}
    assert other.end() == epoch.end() == EpochSums(2, 3.0, 1, [3, 0, 1])
    assert epoch.dead_classes() == 1  # the epoch before still counts
    epoch.add(torch.tensor(3.0), torch.tensor([0.0, 1.0, 0.0]), hard=False)
    assert epoch.dead_classes() == 0
    epoch.end()
    assert epoch.dead_classes() == 2
    assert EpochMeter().end().steps == 0


def test_a_run_logs_what_hints_are_made_of_and_says_nothing(tiny_data: Path, tmp_path: Path) -> None:
    trainer = run_training(tmp_path, tiny_config(tiny_data), "plain", print_freq=1, eval_freq=1)
    entries = [json.loads(line) for line in (trainer.folder.path / "metrics.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if entry["kind"] == "train"]
    for entry in steps:
        assert entry["positive_share"] == pytest.approx(entry["num_positives"] / entry["num_positions"])
        assert 0 < entry["positive_share"] < 1
        assert entry["clipped_share"] == float(entry["gradient_norm"] > 1)
        assert 0 <= entry["dead_classes"] <= 2
    assert steps[-1]["dead_classes"] == 0
    assert all(0 <= entry["silent_classes"] <= 2 for entry in entries if entry["kind"] == "evaluation")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    curves = EventAccumulator(str(trainer.folder.tensorboard))
    curves.Reload()
    wanted = ["train/gradient_norm", "train/positive_share", "train/dead_classes", "train/clipped_share"]
    assert set(wanted) <= set(curves.Tags()["scalars"])
    points = curves.Scalars("train/positive_share")
    assert [point.step for point in points] == [entry["step"] for entry in steps]
    assert [point.value for point in points] == pytest.approx([entry["positive_share"] for entry in steps])
    assert not re.search("slow training|poor convergence", (trainer.folder.path / "train.log").read_text())


def test_a_run_whose_events_lie_nowhere_says_so(tiny_data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hints, "NEVER_EPOCHS", 2)
    model = {"backbone": {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}, "head_num_layers": 2}
    ranges = {"regression_range": [[1000, 2000], [2000, 3000], [3000, 10000]]}
    config = tiny_config(tiny_data, model={**model, **ranges}, opt={"epochs": 2, "warmup_epochs": 0})
    log = (run_training(tmp_path, config, "nowhere", eval_freq=0).folder.path / "train.log").read_text()
    assert log.count("in 2 epochs no position has learnt class(es) 'clap") == 1
