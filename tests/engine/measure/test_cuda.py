"""The same on a CUDA device, where memory is counted by the allocator and time by events."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eventide.engine.measure.ablation import Ablation
from eventide.engine.measure.bench import Bench, make_rows
from eventide.engine.measure.clock import PartClock, now
from eventide.engine.measure.matrix_rate import matrix_rate
from eventide.engine.measure.peak_memory import MemoryJob, measure_memory
from eventide.engine.measure.plan import MeasureOptions
from tests.models.making import small_config

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda", 0)
SIZES: dict[str, Any] = {"model__backbone__n_embd": 64, "model__backbone__n_head": 4}


def ignore(*_: Any) -> None:
    return None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrix_rate(dtype: torch.dtype) -> None:
    assert matrix_rate(CUDA, dtype, runs=2) > 1e9


def test_part_clock_uses_events() -> None:
    layer, clock = torch.nn.Linear(256, 256).to(CUDA), PartClock(CUDA)
    x = torch.ones(1024, 256, device=CUDA)
    with clock.watching([layer]):
        start = now(CUDA)
        layer(layer(x))
        whole = now(CUDA) - start
    assert 0 < clock.read() <= whole


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("work", ["training", "inference"])
def test_memory_is_that_of_the_allocator(work: Any, amp: bool) -> None:
    small, large = (
        measure_memory(MemoryJob(small_config(**SIZES), work, length, 1, amp, 1), CUDA) for length in (512, 4096)
    )
    assert small is not None
    assert large is not None
    assert 0 < small.above_input < large.above_input
    assert large.above_input < large.in_all


@pytest.mark.parametrize("amp", [False, True])
def test_bench(amp: bool) -> None:
    rows = make_rows(("training", "inference"), [256, 1024, 4096], [1], [256], 2)
    measurement = Bench(small_config(**SIZES), "small.yaml", MeasureOptions("cuda", amp, runs=2), rows)
    measurement.run(ignore)
    content = measurement.to_dict()
    assert content["machine"]["device"] == "cuda"
    for row in content["rows"]:
        assert row["error"] is None
        assert row["seconds"] > 0
        assert row["memory_bytes"] > 0
        if row["work"] == "inference":
            assert 0 < row["attention_time_share"] < 1


@pytest.mark.slow
def test_ablation() -> None:
    measurement = Ablation(small_config(**SIZES), "small.yaml", MeasureOptions("cuda", runs=1), 512)
    measurement.run(ignore)
    rows = measurement.to_dict()["rows"]
    assert all(row["training"]["runs"] == 1 for row in rows if not row["reason"])
    assert not any(row["reason"] for row in rows[:-1])
