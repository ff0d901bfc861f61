"""Memory that runs out in a step: with `auto_microbatch` the same gradients in smaller pieces, else one message."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.engine import compiling, fit, guard
from eventide.engine.evaluate import detect_dataset
from eventide.engine.gradients import StepGradients
from eventide.engine.world import World
from eventide.models.registry import BUILDERS
from eventide.types import EventideError
from tests.engine import full_memory
from tests.engine.making import run_training, tiny_config
from tests.engine.several.work import Cut, _through, step_gradients

ERRORS = [
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True, id="CUDA"),
    pytest.param(
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        True,
        id="CPU",
    ),
    pytest.param(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True, id="MPS"),
    pytest.param(RuntimeError("std::bad_alloc"), True, id="a library in C++"),
    pytest.param(MemoryError(), True, id="Python"),
    pytest.param(OSError(12, "Cannot allocate memory"), False, id="of a file"),
    pytest.param(RuntimeError("shapes do not fit"), False, id="a mistake"),
    pytest.param(ValueError("out of memory"), False, id="of another kind"),
]


def test_advice_names_nothing_that_is_on_already() -> None:
    with_it, without = (str(guard.out_of_memory("training", 2, 32, None, fused)) for fused in (True, False))
    assert "use_flash_attn" not in with_it
    assert "Reduce batch size: lower loader.batch_size" in with_it
    assert "set model.backbone.use_flash_attn: true (convTransformerv2), lower loader.batch_size" in without


@pytest.mark.parametrize(("error", "expected"), ERRORS)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert guard.is_out_of_memory(error) is expected


def full(count: int, limit: int) -> None:
    """There is memory for `limit` sequences."""
    if count > limit:
        raise torch.OutOfMemoryError("out of memory, for this test")


def in_forward(limit: int) -> Callable[[nn.Module], Any]:
    def wrap(module: nn.Module) -> Any:
        def run(features: Tensor, mask: Tensor | None) -> Any:
            output = module(features, mask)
            full(len(features), limit)
            return output

        return run

    return wrap


def in_backward(limit: int) -> Callable[[nn.Module], Any]:
    """The gradients of the heads are there already, those of the backbone are not."""

    def wrap(module: Any) -> Any:
        original = module.neck.forward

        def run(features: Tensor, mask: Tensor | None) -> Any:
            module.neck.forward = _through(original) if len(features) > limit else original
            return module(features, mask)

        return run

    return wrap


def config_of(folder: Path, meta_arch: str = "LocPointTransformer", recovers: bool = True, **train: Any) -> Config:
    model = {"meta_arch": meta_arch, "backbone": {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}}
    still = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0, "auto_microbatch": recovers, **train}
    return tiny_config(folder, model=model, train_cfg=still)


def assert_same(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    """To 1e-6 of the largest gradient."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert full_memory.difference(ours, theirs) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("fails", [in_forward, in_backward])
@pytest.mark.parametrize("meta_arch", sorted(BUILDERS))
def test_the_gradients_stay_the_same(tiny_data: Path, meta_arch: str, fails: Any, limit: int) -> None:
    """Five recordings in one batch: for two it halves twice, for one three times."""
    config = config_of(tiny_data, meta_arch)
    expected = step_gradients(World(), config, Cut(5, 1))
    assert_same(step_gradients(World(), config, Cut(5, 1), 0.0, lambda rank: fails(limit)), expected)


@pytest.mark.parametrize("place", ["_teacher", "_objective", "_balanced"])
def test_wherever_it_runs_out(tiny_data: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    balanced = place == "_balanced"
    config = config_of(tiny_data, loss_weight=0.0 if balanced else 1.0)
    share = 0.0 if balanced else 0.6
    expected = step_gradients(World(), config, Cut(4, 1), share)
    original = getattr(StepGradients, place)

    def fail(self: StepGradients, *arguments: Any) -> Any:
        found = original(self, *arguments)
        full(self.work[1], 1 if balanced else 2)
        return found

    monkeypatch.setattr(StepGradients, place, fail)
    if balanced:  # the pass of its own comes with the first cut
        found = step_gradients(World(), config, Cut(4, 1), share, lambda rank: in_forward(3))
    else:
        found = step_gradients(World(), config, Cut(4, 1), share)
    assert_same(found, expected)


def test_the_size_is_said_and_stays(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halved = []
    original = StepGradients._local

    def local(self: StepGradients, *arguments: Any) -> Any:
        if not isinstance(self.detector, Limited):
            self.detector = Limited(self.detector, 1)
        return original(self, *arguments)

    original_halve = StepGradients._halve

    def halve(self: StepGradients, pieces: Any) -> None:
        halved.append(self.state.counters.step)
        original_halve(self, pieces)

    monkeypatch.setattr(StepGradients, "_local", local)
    monkeypatch.setattr(StepGradients, "_halve", halve)
    trainer = run_training(tmp_path, config_in(tiny_data), "halved", print_freq=1)
    assert halved == [0]
    assert trainer.gradients.most_sequences == 1
    log = (trainer.folder.path / "train.log").read_text()
    said = [line for line in log.splitlines() if "out of memory" in line]
    assert len(said) == 1
    assert "2 sequences of up to" in said[0]
    assert "going on with micro-batches of 1, as many more of them (train_cfg.auto_microbatch)" in said[0]


class Limited:
    """A detector that has memory for `limit` sequences."""

    def __init__(self, detector: Any, limit: int) -> None:
        self.detector, self.limit = detector, limit

    def __call__(self, features: Tensor, mask: Tensor | None) -> Any:
        full(len(features), self.limit)
        return self.detector(features, mask)


def config_in(folder: Path, recovers: bool = True) -> Config:
    return config_of(folder, recovers=recovers)


@pytest.mark.parametrize(("recovers", "limit", "sequences"), [(True, 0, 1), (False, 1, 2)])
def test_where_nothing_can_be_halved_a_message_says_what_to_change(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recovers: bool, limit: int, sequences: int
) -> None:
    original = StepGradients._local

    def local(self: StepGradients, *arguments: Any) -> Any:
        if self.state.counters.step == 4:
            self.detector = Limited(self.detector, limit)
        return original(self, *arguments)

    monkeypatch.setattr(StepGradients, "_local", local)
    with pytest.raises(EventideError) as caught:
        run_training(tmp_path, config_in(tiny_data, recovers), "small")
    message = str(caught.value)
    assert f"out of memory in training with {sequences} sequence(s) of up to" in message
    assert "Enable Flash Attention, reduce batch size" in message
    assert "lower loader.batch_size and raise train_cfg.accum_steps, or lower dataset.max_seq_len" in message
    assert ("auto_microbatch" in message) is not recovers
    assert message.endswith("step_00000003.pt.")


def test_in_an_evaluation_the_message_names_its_settings(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def detect(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory, for this test")

    assert fit.detect_dataset is detect_dataset
    monkeypatch.setattr(fit, "detect_dataset", detect)
    with pytest.raises(
        EventideError, match=r"in evaluation with .* lower test_cfg\.batch_size, or set test_cfg\.chunk"
    ):
        run_training(tmp_path, config_in(tiny_data), "evaluation")


@pytest.mark.slow
def test_a_compiled_training_recovers(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    config = config_in(tiny_data)
    section = config.train_cfg.model_copy(update={"compile": True})
    opt = config.opt.model_copy(update={"type": "SGD"})
    config = config.model_copy(update={"train_cfg": section, "opt": opt})
    whole = run_training(tmp_path, config, "whole", eval_freq=0)
    original = compiling.CompiledDetector.__call__

    def call(self: compiling.CompiledDetector, features: Tensor, mask: Tensor | None) -> Any:
        full(self.batch_size, 1)
        return original(self, features, mask)

    monkeypatch.setattr(compiling.CompiledDetector, "__call__", call)
    cut = run_training(tmp_path, config, "cut", eval_freq=0)
    torch._dynamo.reset()
    detector = cut.gradients.detector
    assert isinstance(detector, compiling.CompiledDetector)
    assert detector.batch_size == 1
    expected = whole.state.detector.state_dict()
    for name, tensor in cut.state.detector.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=1e-5), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space work under Linux")
def test_with_too_little_address_space(tiny_data: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.full_memory", str(tiny_data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (
        "out of memory with 8 sequences of up to 4096 feature vectors: going on with micro-batches of 4" in done.stdout
    )
    said = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    size, difference = said["micro-batches of"], said["difference"]
    assert int(size) in (1, 2, 4)  # what is left over lies in pieces: four may not fit any more
    assert float(difference) < 1e-5


@pytest.mark.cuda
def test_on_a_card_that_is_full(tiny_data: Path) -> None:
    """All but a little of the card is taken; what is left holds about half of a step."""
    device = torch.device("cuda")
    steps = full_memory.step_gradients(tiny_data, device, n_embd=128)
    count = 64
    expected = full_memory.gradients(steps, count)  # fits
    expected = {name: tensor.clone() for name, tensor in expected.items()}
    assert steps.most_sequences is None
    need = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    steps.state.optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    filler = []
    left = torch.cuda.mem_get_info()[0] - int(0.7 * need)
    while left > 2**20:  # in pieces: the largest that there are
        size = min(left, 2**30)
        filler.append(torch.empty(size, dtype=torch.uint8, device=device))
        left -= size
    found = full_memory.gradients(steps, count)
    assert steps.most_sequences is not None
    assert steps.most_sequences <= count // 2
    assert filler
    assert full_memory.difference(found, expected) < 1e-5
