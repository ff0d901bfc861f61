"""Compiled training: few graphs, no breaks, the same numbers, the same files."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eventide.config import Config
from eventide.engine import compiling, devices
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.compiling import (
    CompiledDetector,
    compile_failure,
    fill_up,
    first_sequences,
    refuse_without_compiler,
)
from eventide.engine.model_file import load_model
from eventide.models import build
from eventide.types import EventideError, PyramidOutput, UsageError
from tests.engine.making import all_tensors, run_training, tiny_config

pytestmark = pytest.mark.slow

STILL = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0}  # nothing random in the network


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No graph of another test; all of the machinery but C++."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would collect every line of it
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def config_for(folder: Path, compile: bool = True, **train: Any) -> Config:
    """The tiny training on recordings of 24 to 59 vectors, uncut, padded to three lengths."""
    return tiny_config(
        folder,
        dataset={"max_seq_len": 64},
        loader={"num_lengths": 3},
        train_cfg={**STILL, "compile": compile, **train},
        # Not AdamW, which makes steps of the rounding in gradients that are zero (the bias of keys).
        opt={"type": "SGD", "learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1},
    )


BACKBONES = [
    pytest.param("conv", {}, id="conv"),
    pytest.param("convTransformer", {"use_rel_pe": True, "use_abs_pe": True}, id="v1"),
    pytest.param("convTransformer", {"mha_win_size": -1}, id="v1, full attention", marks=pytest.mark.slow),
    pytest.param(
        "convTransformer",
        {"padding": "published", "mha_win_size": 5},
        id="v1, published padding",
        marks=pytest.mark.slow,
    ),
    pytest.param("convTransformerv2", {"n_kv_head": 2}, id="v2"),
    pytest.param(
        "convTransformerv2",
        {"use_flash_attn": False, "use_rms_norm": False},
        id="v2, some switches",
        marks=pytest.mark.slow,
    ),
]


def detector_of(kind: str, backbone: dict[str, Any], channels: int = 64) -> torch.nn.Module:
    """In training mode; wide enough that the uncompiled one takes its fast convolutions."""
    sizes = {"n_embd": channels, "n_head": 4, "arch": [1, 1, 2], "mha_win_size": [5, 5, -1], **backbone}
    content = {
        "dataset": {"input_dim": 8, "num_classes": 3, "max_seq_len": 128},
        "model": {"backbone_type": kind, "backbone": sizes, "fpn_type": "fpn"},
    }
    torch.manual_seed(0)
    return build(Config.model_validate(content, strict=False).resolve()).detector.train()


def inputs(*lengths: int, length: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(len(lengths), 8, length, generator=torch.Generator().manual_seed(length))
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return features * mask[:, None], mask


def results(detector: Any, module: torch.nn.Module, features: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Outputs and gradients of some function of the valid ones; drop path is the same for one batch size."""
    torch.manual_seed(1)
    output = detector(features, mask)
    levels = [*output.logits, *output.offsets]
    valid = [*output.masks, *output.masks]
    loss = sum((x.sin() * keep.unsqueeze(-1)).sum() for x, keep in zip(levels, valid, strict=True))
    loss.backward()  # type: ignore[union-attr]
    found = {f"output {n}": (x * keep.unsqueeze(-1)).detach() for n, (x, keep) in enumerate(zip(levels, valid))}  # noqa: B905
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad
            parameter.grad = None
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    """Float32 tolerance, relative to the largest number of each tensor or to 1."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        assert float((found[name] - value).abs().max()) < tolerance * scale, name


@pytest.mark.parametrize(("kind", "backbone"), BACKBONES)
def test_one_graph_without_breaks_and_the_same_numbers(kind: str, backbone: dict[str, Any]) -> None:
    plain, module = detector_of(kind, backbone), detector_of(kind, backbone)
    features, mask = inputs(120, 77, length=120)
    explained = torch._dynamo.explain(detector_of(kind, backbone))(features, mask)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons
    torch._dynamo.reset()
    compiled = CompiledDetector(module, module, batch_size=2, lengths=1)
    expected = results(plain, plain, features, mask)
    assert_close(results(compiled, module, features, mask), expected)
    assert compiled.graphs == 1
    assert list(module.state_dict()) == list(plain.state_dict())


def test_one_graph_per_length_however_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    module = detector_of("conv", {"arch": [1, 0, 1], "mha_win_size": 5}, channels=8)
    compiled = CompiledDetector(module, module, batch_size=2, lengths=10)
    lengths = list(range(16, 96, 8))  # more than PyTorch would keep by itself
    for _ in range(2):
        for length in lengths:
            for mask_lengths in ((length, length - 3), (length, length), (length - 1,)):
                features, mask = inputs(*mask_lengths, length=length)
                compiled(features, None if min(mask_lengths) == length else mask)
    assert compiled.graphs == len(lengths) == 10
    assert compiled.summary().startswith("compiled 10 graph(s) for 10 length(s): 16, 24, 32")


def test_a_batch_that_is_not_full_is_filled_up_without_effect() -> None:
    plain, module = detector_of("convTransformer", {}), detector_of("convTransformer", {})
    for block in [*plain.modules(), *module.modules()]:
        if hasattr(block, "drop_probability"):
            block.drop_probability = 0.0  # type: ignore[assignment]
    compiled = CompiledDetector(module, module, batch_size=3, lengths=1)
    features, mask = inputs(40, length=48)
    assert_close(results(compiled, module, features, mask), results(plain, plain, features, mask))


FILLED = [
    pytest.param([1, 2], 2, [1, 2], id="full"),
    pytest.param([1, 2], 4, [1, 2, 1, 1], id="the first again"),
    pytest.param([1, 2, 3], 2, [1, 2, 3], id="more than full"),
]


@pytest.mark.parametrize(("rows", "count", "expected"), FILLED)
def test_fill_up(rows: list[int], count: int, expected: list[int]) -> None:
    x = torch.tensor(rows)[:, None].expand(-1, 3)
    assert fill_up(x, count)[:, 0].tolist() == expected


def test_first_sequences_lets_no_gradient_through_to_the_others() -> None:
    x = torch.ones(3, 4, 2, requires_grad=True)
    output = first_sequences(PyramidOutput([x], [x], [torch.ones(3, 4, dtype=torch.bool)]), 1)
    assert [part[0].shape[0] for part in (output.logits, output.offsets, output.masks)] == [1, 1, 1]
    output.logits[0].sum().backward()
    assert x.grad is not None
    assert x.grad.sum(dim=(1, 2)).tolist() == [8, 0, 0]


@pytest.fixture(scope="module")
def plain_run(tiny_data: Path) -> Path:
    return run_training(tiny_data, config_for(tiny_data, compile=False), "plain", print_freq=1).folder.path


def test_a_compiled_run(tiny_data: Path, tmp_path: Path, plain_run: Path) -> None:
    trainer = run_training(tmp_path, config_for(tiny_data), "compiled", print_freq=1, eval_freq=1)
    compiled = trainer.gradients.detector
    assert isinstance(compiled, CompiledDetector)
    assert 1 < len(compiled.seen) <= len(trainer.batch_plan.lengths) <= 3
    assert compiled.graphs == len(compiled.seen)  # four epochs with a smaller batch each and an evaluation between
    assert compiled.summary() in trainer.folder.log.read_text()
    run = trainer.folder.path
    contents = [load_checkpoint(list_checkpoints(folder / "checkpoints")[0]) for folder in (run, plain_run)]
    ours, theirs = (all_tensors({key: content[key] for key in ("model", "average")}) for content in contents)
    assert ours.keys() == theirs.keys()
    assert (
        load_model(run / "best.safetensors").tensors.keys() == load_model(plain_run / "best.safetensors").tensors.keys()
    )
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=1e-3, atol=1e-5), name


def test_a_compiled_run_resumes_to_the_bit(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    config = config_for(tiny_data, dropout=0.2, droppath=0.2)
    whole = run_training(tmp_path, config, "whole", checkpoint_steps=1, eval_freq=0)
    middle = whole.folder.checkpoints / "step_00000010.pt"
    torch._dynamo.reset()
    resumed = run_training(tmp_path, config, "resumed", resume=str(middle), eval_freq=0)
    tensors, again = (all_tensors(trainer.state.state_dict()) for trainer in (whole, resumed))
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("compile", [False, True])
def test_compiling_may_change_on_resuming(
    tiny_data: Path, tmp_path: Path, compile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    whole = run_training(tmp_path, config_for(tiny_data, compile), "whole", checkpoint_steps=1, eval_freq=0)
    middle = str(whole.folder.checkpoints / "step_00000010.pt")
    other = config_for(tiny_data, not compile)
    resumed = run_training(tmp_path, other, "resumed", resume=middle, eval_freq=0)
    assert isinstance(resumed.gradients.detector, CompiledDetector) is not compile
    tensors, again = (all_tensors(trainer.state.state_dict()["model"]) for trainer in (whole, resumed))
    for name, tensor in tensors.items():
        assert torch.allclose(tensor, again[name], rtol=1e-3, atol=1e-5), name


def test_mixed_precision(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)  # where it has not, it is slow but the same
    trainer = run_training(tmp_path, config_for(tiny_data), "amp", amp=True, print_freq=1)
    assert isinstance(trainer.gradients.detector, CompiledDetector)
    assert trainer.gradients.detector.graphs == len(trainer.gradients.detector.seen)
    assert "mixed precision: bfloat16" in trainer.folder.log.read_text()
    assert trainer.folder.log.read_text().count("compiling for ") == trainer.gradients.detector.graphs
    assert trainer.state.counters.bad_total == 0


def test_lengths_by_default(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    config = config_for(tiny_data).model_copy(deep=True)
    config.loader.num_lengths = None
    trainer = run_training(tmp_path, config, "default", eval_freq=0)
    assert 1 <= len(trainer.batch_plan.lengths) <= compiling.LENGTHS_TO_TRY[0]


MACHINES = [
    pytest.param("cpu", {}, {"g++"}, True, None, id="cpu"),
    pytest.param("cpu", {"CXX": "clang++ -O1"}, {"clang++"}, True, None, id="cpu, another compiler"),
    pytest.param("cpu", {}, set(), True, "needs a C\\+\\+ compiler, and there is no g\\+\\+ here", id="cpu, none"),
    pytest.param("cpu", {"CXX": "nope"}, {"g++"}, True, "there is no nope here", id="cpu, named but not there"),
    pytest.param("cuda", {}, {"clang"}, True, None, id="cuda"),
    pytest.param("cuda", {}, set(), True, "needs a C compiler, and there is no gcc or clang here", id="cuda, none"),
    pytest.param("cuda", {}, {"gcc"}, False, "needs triton on a GPU", id="cuda, no triton"),
    pytest.param("mps", {}, {"gcc", "g++"}, True, "not for device mps", id="mps"),
]


@pytest.mark.parametrize(("device", "environment", "programs", "triton", "message"), MACHINES)
def test_what_compiling_needs(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    environment: dict[str, str],
    programs: set[str],
    triton: bool,
    message: str | None,
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    monkeypatch.setattr(compiling.sys, "platform", "linux")  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(compiling, "find_spec", lambda name: object() if triton else None)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if message is None:
        refuse_without_compiler(torch.device(device))
    else:
        with pytest.raises(UsageError, match=f"{message}.*or set train_cfg.compile: false"):
            refuse_without_compiler(torch.device(device))


def test_a_compiler_that_fails_is_one_message(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: compiling.CountingBackend, graph: Any, inputs: Any) -> Any:
        raise ZeroDivisionError("the compiler is ill\n\ncommand:\ng++: fatal error: Killed signal\nand more")

    monkeypatch.setattr(compiling.CountingBackend, "__call__", broken)
    with pytest.raises(EventideError, match=r"torch\.compile failed: .*set train_cfg\.compile: false") as caught:
        run_training(tmp_path, config_for(tiny_data), "ill")
    assert len(str(caught.value).splitlines()) == 1
    assert "failed: ZeroDivisionError: the compiler is ill (g++: fatal error: Killed signal); set" in str(caught.value)
    assert compile_failure(RuntimeError("anything else")) is None


def test_ctrl_c_while_compiling_is_no_failure(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: compiling.CountingBackend, graph: Any, inputs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)  # the C++ compiler, in the same process group, ends with an error
        raise RuntimeError("C++ compile error")

    monkeypatch.setattr(compiling.CountingBackend, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_training(tmp_path, config_for(tiny_data), "stopped")
    log = (tmp_path / "runs" / "tiny_stopped" / "train.log").read_text()
    assert "interrupted while compiling: there is no checkpoint yet" in log


def inductor_agrees(device: str) -> CompiledDetector:
    """Train steps on two lengths through the real compiler; drop path off, since its random numbers differ."""
    small = {"arch": [1, 0, 1], "mha_win_size": 5}
    plain, module = (detector_of("convTransformerv2", small).to(device) for _ in range(2))
    for block in [*plain.modules(), *module.modules()]:
        if hasattr(block, "drop_probability"):
            block.drop_probability = 0.0  # type: ignore[assignment]
    compiled = CompiledDetector(module, module, batch_size=2, lengths=2)
    for lengths, length in (((48, 30), 48), ((64, 64), 64), ((40,), 48)):
        features, mask = (x.to(device) for x in inputs(*lengths, length=length))
        expected = results(plain, plain, features, mask)
        assert_close(results(compiled, module, features, mask), expected, 1e-3 if device == "cuda" else 1e-4)
    assert compiled.graphs == 2
    return compiled


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_real_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    inductor_agrees("cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("amp", [False, True])
def test_on_cuda(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amp: bool) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    inductor_agrees("cuda")
    torch._dynamo.reset()
    config = config_for(tiny_data).model_copy(update={"device": "cuda"})
    trainer = run_training(tmp_path, config, "cuda", amp=amp)
    assert isinstance(trainer.gradients.detector, CompiledDetector)
    assert trainer.gradients.detector.graphs == len(trainer.gradients.detector.seen)
    assert trainer.state.counters.bad_total == 0
