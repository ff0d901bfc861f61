"""Whole measurements of a small model: complete, consistent, and readable after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.engine import compiling
from eventide.engine.measure import ablation as ablation_module
from eventide.engine.measure import bench as bench_module
from eventide.engine.measure.ablation import Ablation
from eventide.engine.measure.bench import Bench, default_lengths, make_rows
from eventide.engine.measure.operations import count_operations, count_parameters
from eventide.engine.measure.peak_memory import MemoryJob
from eventide.engine.measure.plan import MeasureOptions
from eventide.engine.measure.results import Memory, Row
from eventide.engine.measure.variants import VARIANTS
from eventide.models import build
from eventide.types import EventideError, UsageError
from tests.models.making import small_config

ROW_KEYS = {
    *("work", "length", "batch", "runs", "seconds", "fastest_seconds", "network_seconds", "all_seconds", "error"),
    *("recordings_per_second", "vectors_per_second", "operations", "operations_per_recording"),
    *("attention_operations_share", "product_operations_share", "attention_time_share"),
    *("operations_per_second", "matrix_rate_share", "memory_bytes", "memory_in_all_bytes"),
}


@pytest.fixture(autouse=True)
def quick_memory(monkeypatch: pytest.MonkeyPatch) -> list[MemoryJob]:
    """Memory without processes: four bytes a vector."""
    jobs: list[MemoryJob] = []

    def measure(job: MemoryJob, device: torch.device) -> Memory:
        jobs.append(job)
        if job.length == 13:
            raise EventideError("out of memory")
        return Memory(4 * job.length * job.batch, 8 * job.length * job.batch)

    monkeypatch.setattr(bench_module, "measure_memory", measure)
    return jobs


def ignore(*_: Any) -> None:
    return None


def options(**changes: Any) -> MeasureOptions:
    return MeasureOptions(**{"device": "cpu", "runs": 2, **changes})


def run(rows: list[Row], **changes: Any) -> Bench:
    measurement = Bench(small_config(), "small.yaml", options(**changes), rows)
    measurement.run(ignore)
    return measurement


def test_everything_is_measured() -> None:
    rows = make_rows(("training", "inference"), [16, 48, 144], [1, 2], [48], 2)
    content = run(rows).to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["format"] == "eventide-bench-1"
    assert content["complete"] is True
    assert content["parameters"] == count_parameters(build(small_config()).detector)
    assert content["matrix_rate"] > 0
    assert content["precision"] == "32-true"
    assert [(row["work"], row["length"], row["batch"]) for row in content["rows"]] == [
        ("training", 48, 2),
        *(("inference", length, batch) for batch in (1, 2) for length in (16, 48, 144)),
    ]
    for row in content["rows"]:
        assert set(row) == ROW_KEYS
        assert row["runs"] == len(row["all_seconds"]) == 2
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["operations_per_second"] == pytest.approx(row["matrix_rate_share"] * content["matrix_rate"])
        expected = count_operations(small_config(), row["length"], row["batch"], row["work"] == "training")
        assert row["operations"] == expected.total
        assert row["memory_bytes"] == 4 * row["length"] * row["batch"]
        assert row["recordings_per_second"] == pytest.approx(row["batch"] / row["seconds"])
        if row["work"] == "inference":
            assert 0 < row["attention_time_share"] < 1
            assert row["network_seconds"] < row["seconds"]
    memory_fits = [fit for fit in content["fits"] if fit["quantity"] == "memory_bytes"]
    assert [(fit["batch"], round(fit["slope"])) for fit in memory_fits] == [(1, 4), (2, 8)]
    assert all(fit["r_squared"] > 0.999 for fit in memory_fits)


def test_out_of_memory_leaves_a_row_out() -> None:
    content = run(make_rows(("inference",), [13, 16], [1], [], 1)).to_dict()
    assert [row["error"] for row in content["rows"]] == ["out of memory", None]
    assert [row["runs"] for row in content["rows"]] == [0, 2]
    assert content["complete"]


def test_an_interruption_leaves_what_there_is() -> None:
    kept: list[dict[str, Any]] = []
    measurement = Bench(small_config(), "small.yaml", options(runs=5), make_rows(("inference",), [16, 20], [1], [], 1))

    def stop(phase: str, what: str, done: int, total: int) -> None:
        assert done <= total
        if phase == "round 2 of 5":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measurement.run(stop, lambda: kept.append(measurement.to_dict()))
    content = measurement.to_dict()
    assert content["complete"] is False
    assert [row["runs"] for row in content["rows"]] == [1, 1]
    assert [sum(row["runs"] for row in state["rows"]) for state in kept] == [0, 0, 0, 2]


def test_nothing_measured_yet_can_be_read() -> None:
    measurement = Bench(small_config(), "small.yaml", options(), make_rows(("inference",), [16], [1], [], 1))
    content = measurement.to_dict()
    assert content["matrix_rate"] is None
    assert content["fits"] == []
    assert content["rows"][0]["seconds"] is None


def test_mixed_precision_is_measured_against_its_own_rate() -> None:
    content = run(make_rows(("training",), [], [], [48], 1), amp=True, threads=1).to_dict()
    assert content["machine"]["threads"] == 1
    assert content["rows"][0]["matrix_rate_share"] > 0


@pytest.mark.parametrize(
    ("label", "works", "count"), [("both", ("training", "inference"), 7), ("one", ("training",), 1), ("none", (), 0)]
)
def test_sizes(label: str, works: Any, count: int) -> None:
    assert len(make_rows(works, [1, 2, 3], [1, 2], [5], 4)) == count


@pytest.mark.parametrize(
    ("longest", "lengths"),
    [(2304, [576, 1152, 2304, 4608, 9216]), (2, [1, 2, 4, 8]), (1, [1, 2, 4]), (None, [1, 2, 4])],
)
def test_default_lengths(longest: int | None, lengths: list[int]) -> None:
    config = small_config()
    config.dataset.max_seq_len = longest
    assert default_lengths(config) == lengths


def test_compilation_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    config = small_config(train_cfg__compile=True)
    with pytest.raises(UsageError, match=r"C\+\+ compiler"):
        Bench(config, "small.yaml", options(), make_rows(("training",), [], [], [48], 1))
    Bench(config, "small.yaml", options(), make_rows(("inference",), [8], [1], [], 1))


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the compiled row out: compiling takes longer than everything else."""

    def refuse(device: torch.device) -> None:
        raise UsageError("train_cfg.compile: no compiler here")

    monkeypatch.setattr(ablation_module, "refuse_without_compiler", refuse)


@pytest.mark.slow
def test_ablation(monkeypatch: pytest.MonkeyPatch, quick_memory: list[MemoryJob]) -> None:
    no_compiler(monkeypatch)
    measurement = Ablation(small_config(), "small.yaml", options(runs=1), 48)
    turns: list[tuple[int, int]] = []
    measurement.run(lambda phase, what, done, total: turns.append((done, total)))
    content = measurement.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert [row["label"] for row in content["rows"]] == [variant.label for variant in VARIANTS]
    first, *others, last = content["rows"]
    assert first["training_time_ratio"] == first["training_memory_ratio"] == first["inference_time_ratio"] == 1
    for row in [first, *others]:
        assert row["reason"] is None
        assert row["training"]["runs"] == row["inference"]["runs"] == 1
        assert row["training_time_ratio"] == pytest.approx(row["training"]["seconds"] / first["training"]["seconds"])
        assert row["training"]["operations"] > 0
    assert last["reason"] == "not available: train_cfg.compile: no compiler here"
    assert last["training_time_ratio"] is None
    assert [job.amp for job in quick_memory] == [variant.amp for variant in VARIANTS[:-1] for _ in range(2)]
    assert all(done <= total for done, total in turns)
    assert content["complete"]


@pytest.mark.slow
def test_ablation_interrupted_and_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    no_compiler(monkeypatch)
    measurement = Ablation(small_config(model__backbone__n_head=1), "small.yaml", options(), 16)

    def stop(phase: str, what: str, done: int, total: int) -> None:
        if phase == "round 1 of 2" and "all" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measurement.run(stop)
    rows = {row["label"]: row for row in measurement.to_dict()["rows"]}
    assert rows["v1"]["training"]["runs"] == 1
    assert rows["v2, all"]["training"]["runs"] == 0
    assert "n_head is 1" in rows["v2, all + AMP + GQA"]["reason"]


@pytest.mark.slow
def test_ablation_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    monkeypatch.setattr(ablation_module, "VARIANTS", (VARIANTS[0], VARIANTS[-1]))
    measurement = Ablation(small_config(), "small.yaml", options(runs=1), 48)
    measurement.run(ignore)
    assert [row["training"]["runs"] for row in measurement.to_dict()["rows"]] == [1, 1]
