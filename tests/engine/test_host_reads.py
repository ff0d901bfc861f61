"""A training step makes the host wait for the device once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from eventide.engine import fit
from tests.engine.making import run_training, tiny_config


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for the device: numbers read from tensors, and shapes that depend on values.

    Reading a whole vector at once (`tolist`) is not seen here: the step does so once, in `Trainer._read`.
    """

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in self.NAMES:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("accum", [1, 2])
def test_a_step_reads_from_the_device_once(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accum: int
) -> None:
    original, counts = fit.Trainer._step, []

    def counted(self: fit.Trainer, batches: Any) -> float:
        batches = iter([next(batches)])
        with HostReads() as reads:
            norm = original(self, batches)
        counts.append(reads.seen)
        return norm

    monkeypatch.setattr(fit.Trainer, "_step", counted)
    config = tiny_config(tiny_data, train_cfg={"accum_steps": accum})
    run_training(tmp_path, config, "counted", eval_freq=0)
    assert counts == [[]] * len(counts)
    assert len(counts) == (8 if accum == 2 else 12)
