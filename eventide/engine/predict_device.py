"""Which device each of several processes takes."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from eventide.engine.processes import Launch
from eventide.types import UsageError


def device_of_process(name: str, launch: Launch, environment: Mapping[str, str] | None = None) -> str:
    """The device `name` for one of several processes: of CUDA devices, each on a machine takes one of its own.

    Raises:
        UsageError: there are fewer CUDA devices on this machine than processes, or `name` is one single device.
    """
    environment = os.environ if environment is None else environment
    if launch.size == 1:
        return name
    if name.startswith("cuda:"):
        raise UsageError(f"--device {name} with {launch.size} processes: give --device cuda, each takes one of its own")
    if name not in ("auto", "cuda") or not torch.cuda.is_available():
        return name
    count = torch.cuda.device_count()
    if count == 1 < launch.local_size and _sees_its_own_alone(launch, environment):
        return "cuda:0"
    if count < launch.local_size:
        raise UsageError(
            f"{launch.local_size} processes on this machine, but {count} CUDA device(s): start {count} "
            "(--nproc_per_node), or give --device cpu"
        )
    return f"cuda:{launch.local_rank}"


def _sees_its_own_alone(launch: Launch, environment: Mapping[str, str]) -> bool:
    """Whether SLURM has given every task of a machine a device of its own (--gpus-per-task, --gpu-bind)."""
    if launch.launcher != "slurm":
        return False
    on_machine = environment.get("SLURM_GPUS_ON_NODE", "")
    return "SLURM_GPUS_PER_TASK" in environment or (on_machine.isdigit() and int(on_machine) >= launch.local_size)
