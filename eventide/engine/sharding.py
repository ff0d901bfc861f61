"""Models in parts (FSDP): of every weight each process keeps a share, and borrows the others while it computes with it.

PyTorch's `fully_shard` does the borrowing, block by block, and adds gradients up on the way back. Here: which module
is borrowed at a time, and the way between whole tensors and shares. Why so: docs/decisions/013-fsdp.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from eventide.config import Config
from eventide.engine.world import World
from eventide.layers.blocks import Block
from eventide.types import UsageError

DEVICES = ("cpu", "cuda")


def is_sharded(config: Config) -> bool:
    """Whether the model is to lie in parts."""
    return config.train_cfg.strategy == "fsdp"


def refuse_sharding(device: torch.device) -> None:
    """Raise UsageError where models cannot lie in parts; says what can be done."""
    if device.type not in DEVICES:
        raise UsageError(f"train_cfg.strategy fsdp works on CUDA and on CPUs, not on {device.type}; use ddp")
    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UsageError(
            f"train_cfg.strategy fsdp needs a newer PyTorch than {torch.__version__}: update it, or use ddp"
        )


@contextmanager
def group_of_one(world: World, wanted: bool) -> Iterator[None]:
    """Connect a process that trains alone with itself, where that is `wanted`: parts belong to a group."""
    if world.size > 1 or not wanted:
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def mesh_of_all(device: torch.device) -> DeviceMesh:
    """All connected processes in a row, each on its `device`."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return init_device_mesh(device.type, (dist.get_world_size(),))


def shard(module: nn.Module, mesh: DeviceMesh, device: torch.device) -> None:
    """Put `module` on `device` in parts: blocks one after the other, then what is left; gradients will be sums.

    Single numbers cannot be cut and stay whole in every process.
    """
    # Outputs are views, of which it warns: whoever changed them in place would go wrong. Nobody does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    numbers = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    for number in numbers:
        number.data = number.data.to(device)
    for unit in (*(part for part in module.modules() if isinstance(part, Block)), module):
        # Weights that nobody trains are moved from outside after every step: nothing may be kept of them, not even of
        # what comes last in a pass, which is otherwise kept for the pass back that begins with it.
        trained = any(parameter.requires_grad for parameter in unit.parameters())
        frees = None if trained else True
        sharded = fully_shard(unit, mesh=mesh, reshard_after_forward=frees, ignored_params=numbers)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # else dividing by 1 asks for what gloo has not


def own_part(tensor: Tensor) -> Tensor:
    """This process's share of a tensor, as a view; the tensor itself where it is whole."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_part(share: Tensor, like: Tensor) -> Tensor:
    """The tensor that a `share` is this process's part of, cut as `like`; itself where `like` is whole or the share
    is of another kind, as a counter.
    """
    if not isinstance(like, DTensor) or share.shape != like.to_local().shape:
        return share
    return DTensor.from_local(
        share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def in_part(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a `whole` tensor that all have, cut as `like`."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    return distribute_tensor(whole.to(like.to_local().device), like.device_mesh, like.placements, src_data_rank=None)


def cut_as(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, which all processes have, cut as those of the same name in a module's state."""
    own = module.state_dict()
    return {name: in_part(tensor, own.get(name, tensor)) for name, tensor in tensors.items()}


def whole_of(tensor: Tensor) -> Tensor:
    """A tensor cut by rows, put together from the parts of all processes, which all must call this; itself where it is
    whole.

    Not `DTensor.full_tensor`, which now and then ends processes on gloo: docs/decisions/013-fsdp.md.
    """
    part = own_part(tensor)
    if not isinstance(tensor, DTensor):
        return part
    size = tensor.device_mesh.size()
    rows, trailing = -(-tensor.shape[0] // size), tensor.shape[1:]  # the last parts may be shorter, or empty
    padded = part.new_zeros((rows, *trailing))
    padded[: len(part)] = part
    found = part.new_empty((rows * size, *trailing))
    dist.all_gather(list(found.split(rows)), padded, group=tensor.device_mesh.get_group())
    return found[: tensor.shape[0]]


def gathered(value: Any, keep: bool) -> Any:
    """Nested containers with whole tensors in the host's memory, put together from the parts of all processes, one
    after the other. All must call it; those that do not `keep` them get None for every tensor.
    """
    if isinstance(value, Tensor):
        whole = whole_of(value)
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: gathered(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(gathered(item, keep) for item in value)
    return value
