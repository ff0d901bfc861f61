"""Where and in which precision a model computes."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from eventide.engine.processes import Launch
from eventide.types import UsageError

PrecisionName = Literal["32-true", "bf16-mixed", "16-mixed"]
DEVICE_NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def own_device(name: str, launch: Launch) -> torch.device:
    """The device that this process computes on: of several on a machine, each has a CUDA device of its own.

    Raises:
        UsageError: it is not there, or `name` names one device for several processes.
    """
    device = pick_device(name)
    if launch.local_size == 1 or device.type != "cuda":
        return device
    if name.startswith("cuda:"):
        raise UsageError(f"device {name} is one, and there are {launch.local_size} processes here: set device: cuda")
    return torch.device("cuda", launch.local_rank)


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `mps`, `cuda` or `cuda:N` stands for on this machine.

    Raises:
        UsageError: it is not there, or none of these.
    """
    if not DEVICE_NAMES.fullmatch(name):
        raise UsageError(f"device {name!r}: give auto, cpu, cuda, cuda:N or mps")
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index or 0
        if index >= count:
            raise UsageError(f"device {name} is not there: this machine has {count} CUDA device(s); try device auto")
        return torch.device("cuda", index)
    if device.type == "mps" and not has_mps:
        raise UsageError("device mps is not there; try device auto")
    return device


def choose_precision(device: torch.device, amp: bool) -> tuple[PrecisionName, str]:
    """Precision for `--amp` on a device, as Fabric names it, and a sentence that says so (empty without `--amp`)."""
    if not amp:
        return "32-true", ""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", "mixed precision: bfloat16"
        return "16-mixed", "mixed precision: float16 with loss scaling (this GPU has no bfloat16)"
    if device.type == "cpu" and cpu_has_bfloat16():
        return "bf16-mixed", "mixed precision: bfloat16"
    return "32-true", f"--amp has no effect: this {device.type.upper()} has no bfloat16; computing in float32"


def mixed_precision(device: torch.device, amp: bool) -> tuple[Callable[[], AbstractContextManager[object]], str]:
    """What inference computes in with `--amp`: a context to make for each forward pass, and a sentence that says so."""
    name, sentence = choose_precision(device, amp)
    if name == "32-true":
        return nullcontext, sentence
    dtype = torch.bfloat16 if name == "bf16-mixed" else torch.float16
    return lambda: torch.autocast(device.type, dtype), sentence.split(" with loss scaling")[0]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself; where it only could by way of float32, nothing is gained."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check() for check in checks if check is not None)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def make_fabric(
    device: torch.device, precision: PrecisionName, launch: Launch | None = None, in_parts: bool = False
) -> tuple[Fabric, torch.amp.GradScaler | None]:
    """This process on its device, and the loss scaler where the precision needs one.

    Devices, nodes and environment are told: left to itself, Fabric follows what a cluster's variables suggest, and on
    CPUs starts runs of its own. With `in_parts`, where each process sees a part of the gradients, the scaler asks all
    processes whether one was not finite.
    """
    launch = launch or Launch()
    scaler = _make_scaler(device, in_parts) if precision == "16-mixed" else None
    if scaler is not None:  # it is made at first use, which a process without work in its first step has not
        scaler.scale(torch.zeros((), device=device))
    plugin = Precision() if precision == "32-true" else MixedPrecision(precision, device.type, scaler)
    several = launch.size > 1
    all_devices = launch.local_size if device.type == "cpu" else list(range(launch.local_size))
    fabric = Fabric(
        accelerator=device.type,
        devices=all_devices if several else 1 if device.type == "cpu" else [device.index or 0],
        num_nodes=launch.machines,
        strategy=Unwrapped() if several else "auto",
        plugins=[plugin, Launched(launch) if several else LightningEnvironment()],
    )
    fabric.launch()
    return fabric, scaler


def _make_scaler(device: torch.device, in_parts: bool) -> torch.amp.GradScaler:
    if not in_parts:
        return torch.amp.GradScaler(device.type)
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

    return ShardedGradScaler(device.type, process_group=torch.distributed.group.WORLD)


class Unwrapped(DDPStrategy):
    """Fabric's strategy for several processes, without its wrapper around the module: gradients are added up once per
    step by `eventide.engine.reduction`, however many passes a process does.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        return module


class Launched(ClusterEnvironment):
    """What Fabric asks about processes that have been started and connected already."""

    def __init__(self, launch: Launch) -> None:
        super().__init__()
        self.launch = launch

    creates_processes_externally = True
    main_address, main_port = "", 0  # they are connected

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.launch.size

    def set_world_size(self, size: int) -> None:
        if size != self.launch.size:
            raise UsageError(f"Fabric counts {size} processes where {self.launch.size} were started")

    def global_rank(self) -> int:
        return self.launch.rank

    def set_global_rank(self, rank: int) -> None:
        if rank != self.launch.rank:
            raise UsageError(f"process {self.launch.rank} is number {rank} for Fabric: machines differ in processes")

    def local_rank(self) -> int:
        return self.launch.local_rank

    def node_rank(self) -> int:
        return self.launch.rank // self.launch.local_size
