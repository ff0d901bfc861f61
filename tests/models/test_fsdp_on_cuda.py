"""A model in parts on one CUDA device: the training of the whole one, in every precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.engine import devices
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from tests.engine.making import all_tensors, run_training, tiny_config, write_data

pytestmark = pytest.mark.cuda
SGD = {"type": "SGD", "learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1}


def trained(folder: Path, name: str, strategy: str, **options: Any) -> dict[str, torch.Tensor]:
    """All tensors at the end of the tiny training."""
    train = {"droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0, "strategy": strategy}
    config = tiny_config(folder, train_cfg=train, opt=SGD).model_copy(update={"device": "cuda"})
    run_training(folder, config, name, **options)
    content = load_checkpoint(list_checkpoints(folder / "runs" / f"tiny_{name}" / "checkpoints")[0])
    return {name: tensor for name, tensor in all_tensors(content).items() if not name.startswith("/losses")}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny data; products in whole float32."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    write_data(tmp_path)
    return tmp_path


@pytest.mark.parametrize("amp", [False, True])
def test_as_a_whole_one(data: Path, amp: bool) -> None:
    found, expected = (trained(data, strategy, strategy, amp=amp) for strategy in ("fsdp", "ddp"))
    assert found.keys() == expected.keys()
    bound = 1e-2 if amp else 1e-4
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=bound, atol=bound, msg=name)


def test_with_loss_scaling(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    assert devices.choose_precision(torch.device("cuda"), True)[0] == "16-mixed"
    found = trained(data, "scaled", "fsdp", amp=True)
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_it_goes_on_as_a_whole_one(data: Path) -> None:
    expected = trained(data, "begun", "fsdp")
    first = list_checkpoints(data / "runs" / "tiny_begun" / "checkpoints")[-1]
    found = trained(data, "resumed", "ddp", resume=str(first))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4, msg=name)
