"""What is timed is what the engine does, on features of the configured sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eventide.engine import compiling
from eventide.engine.measure.clock import PartClock, now
from eventide.engine.measure.matrix_rate import matrix_rate
from eventide.engine.measure.results import Work
from eventide.engine.measure.workload import EVENTS, InferenceWork, TrainingWork, make_workload, random_batch
from eventide.models.registry import BUILDERS
from tests.models.making import CHANNELS, CLASSES, small_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("length", [1, 2, 144, 1024, 2500])
@pytest.mark.parametrize("batch", [1, 3])
def test_random_batches(length: int, batch: int) -> None:
    found = random_batch(small_config(), length, batch)
    assert found.features.shape == (batch, CHANNELS, length)
    assert found.features.isfinite().all()
    assert found.lengths == [length] * batch
    assert found.mask.all()
    assert found.segments.shape == (batch, EVENTS, 2)
    assert (found.segments[..., 1] > found.segments[..., 0]).all()
    assert (found.segments >= 0).all()
    assert (found.segments <= length).all()
    assert found.label_ids.min() >= 0
    assert found.label_ids.max() < CLASSES
    again = random_batch(small_config(), length, batch)
    assert torch.equal(found.features, again.features)


@pytest.mark.parametrize(
    ("label", "changes", "channels"),
    [
        ("streams", {"dataset__input_dim": [5, 7], "model__backbone__n_embd": [10, 6]}, 12),
        ("covers its recording", {"dataset__feat_stride": -1.0}, CHANNELS),
        ("no rate", {"dataset__default_fps": None}, CHANNELS),
    ],
)
def test_unusual_data(label: str, changes: dict[str, Any], channels: int) -> None:
    config = small_config(**changes)
    batch = random_batch(config, 40, 1)
    assert batch.features.shape[1] == channels
    assert InferenceWork(config, CPU, amp=False).run(batch).whole > 0


@pytest.mark.parametrize("meta_arch", sorted(BUILDERS))
@pytest.mark.parametrize("work", ["training", "inference"])
@pytest.mark.parametrize("amp", [False, True])
def test_every_architecture_works(meta_arch: str, work: Work, amp: bool) -> None:
    config = small_config(meta_arch)
    timing = make_workload(work, config, CPU, amp).run(random_batch(config, 48, 2))
    assert timing.whole > 0
    if work == "inference":
        assert 0 < (timing.attention or 0) < (timing.network or 0) < timing.whole


def test_a_step_changes_the_weights_and_inference_does_not() -> None:
    config = small_config()
    for work, changes in (("training", True), ("inference", False)):
        workload = make_workload(work, config, CPU, amp=False)  # type: ignore[arg-type]
        before = [parameter.detach().clone() for parameter in workload.module.parameters()]
        for _ in range(2):
            workload.run(random_batch(config, 48, 1))
        same = [torch.equal(a, b) for a, b in zip(before, workload.module.parameters(), strict=True)]
        assert all(same) != changes
        assert all(parameter.isfinite().all() for parameter in workload.module.parameters())


def test_no_attention_takes_no_time() -> None:
    config = small_config(model__backbone_type="conv")
    assert InferenceWork(config, CPU, amp=False).run(random_batch(config, 48, 1)).attention == 0


@pytest.mark.slow
def test_a_compiled_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    config = small_config(train_cfg__compile=True)
    workload = TrainingWork(config, CPU, amp=False)
    for _ in range(2):
        workload.run(random_batch(config, 48, 2))
    assert isinstance(workload.detector, compiling.CompiledDetector)
    assert workload.detector.graphs >= 1


def test_part_clock_adds_up_calls_and_starts_afresh() -> None:
    clock = PartClock(CPU)
    inner, outer = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with clock.watching([inner]):
        start = now(CPU)
        for _ in range(3):
            outer(inner(torch.ones(1, 2)))
        whole = now(CPU) - start
    assert 0 < clock.read() < whole
    assert clock.read() == 0
    inner(torch.ones(1, 2))
    assert clock.read() == 0  # no longer watched


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrix_rate(dtype: torch.dtype) -> None:
    assert matrix_rate(CPU, dtype, runs=1) > 0
