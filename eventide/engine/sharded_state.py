"""The state of a training whose model lies in parts. What is saved and loaded is whole all the same, so that a run goes
on with any number of processes, in parts or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from eventide.config import Config
from eventide.engine.ema import WeightAverage
from eventide.engine.optim import build_optimizer, parameters_of
from eventide.engine.reduction import GradientSum, NoReduction, Reduction
from eventide.engine.sharding import as_part, cut_as, gathered, in_part, mesh_of_all, own_part, shard, whole_of
from eventide.engine.state import TrainingState
from eventide.engine.world import World
from eventide.models import Architecture, build


def state_in_parts(
    config: Config, world: World, model: Architecture, device: torch.device, scaler: torch.amp.GradScaler | None
) -> tuple[TrainingState, Reduction]:
    """The state of a training at its beginning, the model on `device` in parts, and how gradients are summed."""
    mesh, train = mesh_of_all(device), config.train_cfg
    average = ShardedAverage(model.detector, train.ema_decay, train.ema_ramp, lambda: build(config).detector.to(device))
    for module in (model.detector, average.module):
        shard(module, mesh, device)
    average.follow(model.detector)
    optimizer = build_optimizer(config.opt, model.detector, model.criterion)
    parameters = give_own_parts(optimizer)
    state = ShardedState(world, parameters, model.detector, model.criterion, average, optimizer, scaler)
    return state, ShardedReduction(world, parameters, parameters_of(optimizer))


def give_own_parts(optimizer: Optimizer) -> list[nn.Parameter]:
    """Let `optimizer`, which is new, update this process's part of every parameter, a tensor as any other; returns the
    parameters in their order.

    Operations on many tensors at once are then as fast as ever, and single numbers, which are whole, may be among them.
    """
    parameters = parameters_of(optimizer)
    for group in optimizer.param_groups:
        group["params"] = [nn.Parameter(own_part(p)) if isinstance(p, DTensor) else p for p in group["params"]]
    return parameters


class ShardedReduction(Reduction):
    """Gradients as `fully_shard` leaves them, summed over processes and cut as the `parameters`, become those of the
    optimiser's `parts`; gradients of parameters that are whole are summed here.

    All processes do equally many passes. Each is summed on its way back: to sum once per step, every process would have
    to hold all gradients whole.
    """

    def __init__(self, world: World, parameters: list[nn.Parameter], parts: list[nn.Parameter]) -> None:
        pairs = list(zip(parameters, parts, strict=True))
        self.world = world
        self.cut = [(parameter, part) for parameter, part in pairs if parameter is not part]
        self.whole = [parameter for parameter, part in pairs if parameter is part]
        self.rest = GradientSum(self.whole) if world.size > 1 else NoReduction()

    def restart(self) -> None:
        for parameter, _ in self.cut:
            parameter.grad = None
        self.rest.restart()

    def last_pass(self, is_last: bool) -> None:
        self.rest.last_pass(is_last)

    def finish(self) -> None:
        self.rest.finish()
        for parameter, part in self.cut:
            part.grad = None if parameter.grad is None else own_part(parameter.grad)
            parameter.grad = None

    def norm(self, optimizer: Optimizer) -> Tensor:
        """Total L2 norm of the gradients of all processes, the same in each."""
        mine = [part.grad for _, part in self.cut if part.grad is not None]
        if self.world.is_first:  # all have the same of these; they count once
            mine += [parameter.grad for parameter in self.whole if parameter.grad is not None]
        if not mine:
            mine = [torch.zeros((), device=parameters_of(optimizer)[0].device)]
        squared = torch.nn.utils.get_total_norm(mine).double().square()
        return self.world.sum(squared).sqrt().float()


class ShardedAverage(WeightAverage):
    """A moving average in parts, of a module that is put in parts later (`follow` it then).

    `build_whole` makes a module of the same kind, anywhere, with any weights.
    """

    def __init__(self, module: nn.Module, limit: float, ramp: bool, build_whole: Callable[[], nn.Module]) -> None:
        super().__init__(module, limit, ramp)
        self._build_whole = build_whole
        self._whole: nn.Module | None = None

    def tensors_of(self, module: nn.Module) -> list[Tensor]:
        return [own_part(parameter) for parameter in module.parameters()]

    @property
    def whole(self) -> nn.Module:
        if self._whole is None:
            raise RuntimeError("the averaged model lies in parts: gather it first")
        return self._whole

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Every process has the whole averaged model meanwhile, a copy: they may use it without one another."""
        whole = self._build_whole().eval().requires_grad_(False)
        own = whole.state_dict()
        for name, tensor in self.module.state_dict().items():
            own[name].copy_(whole_of(tensor))
        self._whole = whole
        try:
            yield
        finally:
            self._whole = None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "module": cut_as(self.module, state["module"])})


class ShardedState(TrainingState):
    """Saves and loads whole tensors; `parameters` are the optimiser's, as `give_own_parts` returns them."""

    def __init__(self, world: World, parameters: list[nn.Parameter], *state: Any) -> None:
        super().__init__(*state)
        self.world, self.parameters = world, parameters

    def state_dict(self) -> dict[str, Any]:
        """As of any training, in the first process; in the others without tensors. All must call it."""
        state = super().state_dict()
        state["optimizer"] = self._recut(state["optimizer"], as_part)
        return dict(gathered(state, keep=self.world.is_first))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from whole tensors, which all processes have."""
        cut = cut_as(self.detector, state["model"])
        optimizer = self._recut(state["optimizer"], lambda tensor, like: own_part(in_part(tensor, like)))
        super().load_state_dict({**state, "model": cut, "optimizer": optimizer})

    def _recut(self, state: Mapping[str, Any], change: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Any]:
        """The optimiser's state with `change` made to every tensor, told the parameter that it belongs to."""
        recut = {
            number: {
                name: change(value, self.parameters[number]) if isinstance(value, Tensor) else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": recut}
