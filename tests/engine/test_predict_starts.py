"""Which processes of a prediction belong to one start, and the device of each."""

from __future__ import annotations

import os
from typing import Any

import pytest
from torch.distributed import TCPStore

from eventide.engine.predict_device import device_of_process
from eventide.engine.predict_together import launch_key
from eventide.engine.processes import Launch
from eventide.types import UsageError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "4"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    ("launcher", "environment", "change"),
    [
        ("torchrun", TORCHRUN, {"MASTER_PORT": "2"}),
        ("torchrun", TORCHRUN, {"TORCHELASTIC_RESTART_COUNT": "1"}),
        ("slurm", SLURM, {"SLURM_STEP_ID": "1"}),
        ("slurm", SLURM, {"SLURM_RESTART_COUNT": "1"}),
    ],
)
def test_a_start_has_one_name(launcher: Any, environment: dict[str, str], change: dict[str, str]) -> None:
    names = {launch_key(Launch(launcher, rank, 4, rank % 2, 2), environment) for rank in range(4)}
    assert len(names) == 1
    assert launch_key(Launch(launcher, 0, 4, 0, 2), {**environment, **change}) not in names


def test_processes_behind_wrappers_are_of_one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torchrun --no-python script.sh`: the parent of each is its own shell, but torchrun's table is one."""
    table = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    agent = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(table.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    names = set()
    for rank in range(3):
        monkeypatch.setattr(os, "getppid", lambda rank=rank: 1000 + rank)
        names.add(launch_key(Launch("torchrun", rank, 3, rank, 3), {**TORCHRUN, **agent}))
    assert len(names) == 1
    other = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    agent["MASTER_PORT"] = str(other.port)
    assert launch_key(Launch("torchrun", 0, 3, 0, 3), {**TORCHRUN, **agent}) not in names


def test_every_run_alone_is_a_start_of_its_own() -> None:
    assert launch_key(Launch(), {}) != launch_key(Launch(), {})


ALONE, THIRD = Launch(), Launch("torchrun", 6, 8, 2, 4)
BOUND = Launch("slurm", 6, 8, 2, 4)
DEVICES = [
    pytest.param("auto", ALONE, 1, {}, "auto", id="alone"),
    pytest.param("cuda:3", ALONE, 1, {}, "cuda:3", id="alone, named"),
    pytest.param("auto", THIRD, 4, {}, "cuda:2", id="auto"),
    pytest.param("cuda", THIRD, 8, {}, "cuda:2", id="more devices"),
    pytest.param("auto", THIRD, 0, {}, "auto", id="no CUDA"),
    pytest.param("cpu", THIRD, 1, {}, "cpu", id="cpu"),
    pytest.param("auto", BOUND, 1, {"SLURM_GPUS_ON_NODE": "4"}, "cuda:0", id="one each by SLURM"),
    pytest.param("auto", BOUND, 1, {"SLURM_GPUS_PER_TASK": "1"}, "cuda:0", id="one per task"),
    pytest.param("auto", BOUND, 1, {"SLURM_GPUS_ON_NODE": "1"}, None, id="one for all by SLURM"),
    pytest.param("auto", THIRD, 1, {"SLURM_GPUS_ON_NODE": "4"}, None, id="one for all"),
    pytest.param("cuda", THIRD, 3, {}, None, id="too few"),
    pytest.param("cuda:1", THIRD, 8, {}, None, id="named"),
]


@pytest.mark.parametrize(("name", "launch", "count", "environment", "device"), DEVICES)
def test_device_of_each_process(
    name: str,
    launch: Launch,
    count: int,
    environment: dict[str, str],
    device: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if device is None:
        with pytest.raises(UsageError, match=r"CUDA device\(s\): start|give --device cuda"):
            device_of_process(name, launch, environment)
    else:
        assert device_of_process(name, launch, environment) == device
