"""Whole trainings in several processes against the same training in one."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.config import Config
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.model_file import load_model
from eventide.engine.world import World
from tests.engine.making import all_tensors, tiny_config
from tests.engine.several import work
from tests.engine.several.pool import Pool

pytestmark = pytest.mark.slow

# Not AdamW: it divides by the size of the gradients, so where one is zero but for rounding, rounding decides.
PLAIN = {"type": "SGD", "learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1}
DROPOUT = {"droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0}


def config_of(folder: Path, accum_steps: int = 1, **changes: dict[str, Any]) -> Config:
    """The tiny training with dropout, whose numbers depend on the place of a micro-batch in the run."""
    return tiny_config(folder, train_cfg={**DROPOUT, "accum_steps": accum_steps}, **{"opt": PLAIN, **changes})


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(tiny_data: Path) -> dict[int, dict[str, Any]]:
    """The training in one process, by batches per step."""
    return {
        count: work.whole_training(World(), config_of(tiny_data, count), tiny_data, f"alone{count}", {})
        for count in (2, 3)
    }


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_train_as_one_that_accumulates(
    tiny_data: Path, tmp_path: Path, pair: Pool, triple: Pool, alone: dict[int, dict[str, Any]], size: int
) -> None:
    pool = pair if size == 2 else triple
    results = pool.run(work.whole_training, config_of(tiny_data), tmp_path, "several", {"eval_freq": 1})
    expected = alone[size]
    for result in results:  # dropout too: the same numbers for the same micro-batch, whoever computes it
        assert_close(result["tensors"], expected["tensors"])
        assert result["counters"] == results[0]["counters"]
        assert all(torch.equal(tensor, results[0]["tensors"][name]) for name, tensor in result["tensors"].items())
    run = results[0]["files"]
    assert [result["files"] for result in results[1:]] == [None] * (size - 1)
    best, last = load_model(run / "best.safetensors"), load_model(run / "last.safetensors")
    averages = {name: results[0]["tensors"][f"/average/module/{name}"] for name in last.tensors}
    assert all(torch.equal(tensor, averages[name]) for name, tensor in last.tensors.items())
    assert best.tensors.keys() == last.tensors.keys()
    stored = all_tensors(load_checkpoint(list_checkpoints(run / "checkpoints")[0]))
    assert all(torch.equal(tensor, stored[name]) for name, tensor in results[0]["tensors"].items())


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_recording_is_evaluated_once(
    tiny_data: Path, tmp_path: Path, pair: Pool, triple: Pool, batch_size: int
) -> None:
    config = config_of(tiny_data, test_cfg={"batch_size": batch_size}, opt={"epochs": 1, "warmup_epochs": 0})
    for size, pool in ((2, pair), (3, triple)):
        results = pool.run(work.whole_training, config, tmp_path, f"size{size}", {})
        names = [name for result in results for name in result["evaluated"]]
        assert sorted(names) == ["rec5", "rec6", "rec7"]


def test_one_process_writes_one_log(tiny_data: Path, tmp_path: Path, triple: Pool) -> None:
    results = triple.run(work.whole_training, config_of(tiny_data), tmp_path, "log", {"eval_freq": 1, "print_freq": 1})
    run = results[0]["files"]
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries if entry["kind"] == "train"]
    assert steps == list(range(1, len(steps) + 1))
    assert [entry["epoch"] for entry in entries if entry["kind"] == "evaluation"] == [1, 2, 3, 4]
    log = (run / "train.log").read_text()
    assert log.count("3 process(es): a step is 3 batch(es) of 2 recording(s), up to 1 each") == 1
    assert log.count("done: ") == 1
    assert not list(run.rglob("*.tmp"))


@pytest.mark.parametrize(("begun", "resumed"), [(2, 3), (3, 2), (2, 1), (1, 3)])
def test_a_run_goes_on_with_another_number_of_processes(
    tiny_data: Path,
    tmp_path: Path,
    pair: Pool,
    triple: Pool,
    begun: int,
    resumed: int,
) -> None:
    """Its steps stay as they were; without dropout, whose numbers follow the cut where batches are cut up."""
    quiet = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0, "accum_steps": 2 if begun == 1 else 1}
    config = tiny_config(tiny_data, train_cfg=quiet, opt=PLAIN)

    def run(size: int, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
        if size == 1:
            return work.whole_training(World(), config, folder, "run", options)
        return (pair if size == 2 else triple).run(work.whole_training, config, folder, "run", options)[0]

    whole = run(begun, tmp_path / "whole", {"checkpoint_epochs": 2})
    checkpoints = list_checkpoints(tmp_path / "whole" / "runs" / "tiny_run" / "checkpoints")
    middle = next(path for path in reversed(checkpoints) if path != checkpoints[0])
    goes_on = run(resumed, tmp_path / "other", {"resume": str(middle)})
    assert_close(goes_on["tensors"], whole["tensors"])
    assert goes_on["counters"]["step"] == whole["counters"]["step"]
    log = (tmp_path / "other" / "runs" / "tiny_run" / "train.log").read_text()
    assert "going on from" in log
    assert "keeps them" in log


def test_the_rate_grows_with_the_step(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    config = config_of(tiny_data, accum_steps=2)
    run = pair.run(work.whole_training, config, tmp_path, "scaled", {"scale_rate": True, "print_freq": 1})[0]["files"]
    rates = [
        entry["learning_rate"]
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if (entry := json.loads(line))["kind"] == "train"
    ]
    assert max(rates) == pytest.approx(4 * config.opt.learning_rate)
    assert "learning rate 0.01 x 4, since a step is 4 batches: 0.04" in (run / "train.log").read_text()


def test_without_work_in_the_first_step_there_is_a_loss_scale(tiny_data: Path, tmp_path: Path, triple: Pool) -> None:
    """A run in float16 that goes on where three processes find two recordings."""
    config = config_of(tiny_data, loader={"batch_size": 1})
    config = config.model_copy(update={"train_cfg": config.train_cfg.model_copy(update={"keep_checkpoints": 100})})
    options = {"amp": True, "checkpoint_steps": 1}
    whole = triple.run(work.half_training, config, tmp_path, "half", options)[0]
    first = whole["files"] / "checkpoints" / "step_00000001.pt"
    goes_on = triple.run(work.half_training, config, tmp_path, "on", {**options, "resume": str(first)})[0]
    assert goes_on["counters"]["step"] == whole["counters"]["step"] == 8
    assert all(torch.equal(tensor, whole["tensors"][name]) for name, tensor in goes_on["tensors"].items())


def test_processes_of_different_precision_are_refused(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    """Their gradients would be scaled differently, and their weights drift apart without a word."""
    first, second = pair.run(work.training_in_two_precisions, config_of(tiny_data), tmp_path)
    assert first[0] == "UsageError"
    assert "precision is 'bf16-mixed' in process 0 and '16-mixed' there" in first[1]
    assert second[0] == "AlreadySaidError"


def test_a_disk_that_refuses_the_first_process_ends_all(pair: Pool) -> None:
    first, second = pair.run(work.failing_by_the_disk)
    assert first == ("EventideError", "Permission denied: runs/tiny/lock")
    assert second[0] == "AlreadySaidError"


def test_long_work_of_the_first_process_is_waited_for() -> None:
    """Gradients are waited for 1 s here."""
    with closing(Pool(2, patience=1)) as pool:
        assert pool.run(work.waiting_beyond_patience, 2.5) == [(7, 2.0), (7, 2.0)]
