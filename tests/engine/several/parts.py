"""What the processes of a pool do in the tests of models in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.utils._python_dispatch import TorchDispatchMode

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import training_steps
from eventide.data.steps import Share, step_pieces
from eventide.engine.devices import make_fabric
from eventide.engine.gradients import StepGradients
from eventide.engine.optim import parameters_of
from eventide.engine.sharded_state import ShardedState, state_in_parts
from eventide.engine.sharding import as_part, gathered, mesh_of_all, own_part, whole_of
from eventide.engine.world import World
from eventide.layers import pieces as layer_pieces
from eventide.models import build
from tests.engine.making import all_tensors
from tests.engine.several.work import Cut, Results, train_watched


def step_gradients(
    world: World, config: Config, cut: Cut, teacher_share: float = 0.0, rows_at_once: int | None = None
) -> list[Results]:
    """As `tests.engine.several.work.step_gradients`, of a model in parts; also the total `norm`, as summed.

    Where no gradient is kept, sequences are cut into pieces of `rows_at_once`.
    """
    data = EventDataset(config, config.train_split, training=True)
    loader = config.loader.model_copy(update={"batch_size": cut.batch_size})
    plan, share = BatchPlan.of(data, loader, cut.batches_per_step), Share(world.rank, world.size, equal=True)
    device = torch.device("cpu")
    fabric, _ = make_fabric(device, "32-true", world.launch, in_parts=True)
    torch.manual_seed(3)
    model = build(config)
    model.set_longest_event(data.longest_event())
    state, reduction = state_in_parts(config, world, model, device, None)
    assert isinstance(state, ShardedState)
    with torch.no_grad():  # a teacher that says something else
        for weight in state.average.module.parameters():
            own_part(weight).mul_(1.01)
    gradients = StepGradients(config, fabric, world, model.detector, state, reduction, lambda text: None)
    names = {parameter: name for name, parameter in model.detector.named_parameters()}
    found = []
    steps = zip(step_pieces(plan, share), training_steps(data, plan, num_workers=0, share=share), strict=False)
    rows = layer_pieces.ROWS_AT_ONCE if rows_at_once is None else rows_at_once
    with mock.patch.object(layer_pieces, "ROWS_AT_ONCE", rows):
        for step, ((_, pieces), batches) in enumerate(steps):
            if step == plan.steps_per_epoch:
                break
            losses = gradients.compute(step * 100, list(zip(pieces, batches, strict=True)), teacher_share, (1.0, 0.0))
            assert losses.flags.tolist() == [world.size, 0.0]
            results = {
                names[parameter]: gathered(as_part(part.grad, parameter), keep=True) * losses.factor
                for parameter, part in zip(state.parameters, parameters_of(state.optimizer), strict=True)
                if part.grad is not None
            }
            values = dict(zip(losses.names, losses.values.unbind(), strict=True))
            norm = reduction.norm(state.optimizer) * losses.factor
            found.append({**results, **values, "normaliser": model.criterion.loss_normalizer.clone(), "norm": norm})
    return found


def training(world: World, config: Config, folder: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train; what this process has evaluated, and how many bytes it holds."""
    trainer, evaluated = train_watched(world, config, folder, name, options)
    state = trainer.state
    held = {
        "weights": [own_part(parameter) for parameter in state.detector.parameters()],
        "average": [own_part(parameter) for parameter in state.average.module.parameters()],
        "optimizer": list(all_tensors(state.optimizer.state_dict()["state"]).values()),
    }
    return {
        "evaluated": evaluated,
        "counters": vars(state.counters),
        "bytes": {kind: sum(x.numel() * x.element_size() for x in tensors) for kind, tensors in held.items()},
    }


class Messages(TorchDispatchMode):
    """The operations that send something between processes, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.namespace in ("c10d", "_c10d_functional"):
            self.names.add(operation._opname)
        return operation(*args, **(kwargs or {}))


def messages_of_training(world: World, config: Config, folder: Path) -> set[str]:
    with Messages() as messages:
        training(world, config, folder, "messages", {"eval_freq": 1})
    return messages.names


def messages_of_full_tensor(world: World) -> set[str]:
    with Messages() as messages:
        rows(world, 2, torch.float32).full_tensor()
    return messages.names


def rows(world: World, count: int, dtype: torch.dtype) -> DTensor:
    """`count` rows that all differ, cut over all processes."""
    whole = torch.arange(6 * count).reshape(count, 3, 2).to(dtype)
    return distribute_tensor(whole, mesh_of_all(torch.device("cpu")), [Shard(0)], src_data_rank=None)


def whole_rows(world: World, count: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    """`rows` put together again, and how many of them this process has."""
    cut = rows(world, count, dtype)
    return whole_of(cut), len(cut.to_local())


def scale_after_overflow(world: World) -> float:
    """The loss scale after a step in which the part of the last process alone was not finite."""
    from eventide.engine.devices import _make_scaler

    scaler = _make_scaler(torch.device("cpu"), in_parts=True)
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scaler.scale(torch.zeros(()))
    parameter.grad = torch.full((2,), float("inf") if world.rank == world.size - 1 else 1.0)
    scaler.unscale_(optimizer)
    scaler.update()
    return float(scaler.get_scale())
