"""What the processes of a pool do in the tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import training_steps
from eventide.data.steps import Share, step_pieces
from eventide.engine.devices import make_fabric
from eventide.engine.ema import WeightAverage
from eventide.engine.fit import FitOptions, Trainer
from eventide.engine.gradients import StepGradients
from eventide.engine.optim import build_optimizer, parameters_of
from eventide.engine.reduction import GradientSum, NoReduction
from eventide.engine.run_folder import RunFolder
from eventide.engine.setup import train
from eventide.engine.state import TrainingState
from eventide.engine.world import World
from eventide.models import build
from eventide.types import EventideError
from tests.engine.making import all_tensors

Results = dict[str, Tensor]
BUCKET = 2000  # bytes: several messages for a tiny model


@dataclass
class Cut:
    """How a step is cut: recordings per batch, and how many batches make a step."""

    batch_size: int
    batches_per_step: int


def step_gradients(
    world: World, config: Config, cut: Cut, teacher_share: float = 0.0, failing: Callable[[int], Failing] | None = None
) -> list[Results]:
    """Gradients, losses and normaliser of every step of an epoch, without updates in between.

    `failing` gives, by rank, the module that fails on the way.
    """
    data = EventDataset(config, config.train_split, training=True)
    loader = config.loader.model_copy(update={"batch_size": cut.batch_size})
    plan, share = BatchPlan.of(data, loader, cut.batches_per_step), Share(world.rank, world.size)
    fabric, _ = make_fabric(torch.device("cpu"), "32-true", world.launch)
    torch.manual_seed(3)
    model = build(config)
    model.set_longest_event(data.longest_event())
    average = WeightAverage(model.detector, 0.9, ramp=False)
    with torch.no_grad():  # a teacher that says something else
        for weight in average.module.parameters():
            weight.mul_(1.01)
    state = TrainingState(
        model.detector, model.criterion, average, build_optimizer(config.opt, model.detector, model.criterion)
    )
    parameters = parameters_of(state.optimizer)
    reduction = GradientSum(parameters, BUCKET) if world.size > 1 else NoReduction()
    detector = model.detector if failing is None else failing(world.rank)(model.detector)
    gradients = StepGradients(config, fabric, world, detector, state, reduction, lambda text: None)
    found = []
    steps = zip(step_pieces(plan, share), training_steps(data, plan, num_workers=0, share=share), strict=False)
    for step, ((_, pieces), batches) in enumerate(steps):
        if step == plan.steps_per_epoch:
            break
        losses = gradients.compute(step * 100, list(zip(pieces, batches, strict=True)), teacher_share, (1.0, 0.0))
        assert losses.flags.tolist() == [world.size, 0.0]
        results = {name: p.grad * losses.factor for name, p in model.detector.named_parameters() if p.grad is not None}
        values = dict(zip(losses.names, losses.values.unbind(), strict=True))
        found.append({**results, **values, "normaliser": model.criterion.loss_normalizer.clone()})
    return found


Failing = Callable[[nn.Module], Callable[[Tensor, Tensor | None], Any]]


def never(module: nn.Module) -> Callable[[Tensor, Tensor | None], Any]:
    """A module that does not fail."""
    return module


def in_forward(module: nn.Module) -> Callable[[Tensor, Tensor | None], Any]:
    """Memory for one sequence, no more."""

    def run(features: Tensor, mask: Tensor | None) -> Any:
        if features.shape[0] > 1:
            raise torch.OutOfMemoryError("out of memory, for this test")
        return module(features, mask)

    return run


class _Backward(torch.autograd.Function):
    """Passes a tensor on; its gradient does not get through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory, for this test")


def in_backward(module: nn.Module) -> Callable[[Tensor, Tensor | None], Any]:
    """Memory for the heads of two sequences, but not for the backbone: some gradients are on their way by then."""

    def run(features: Tensor, mask: Tensor | None) -> Any:
        if features.shape[0] == 1:
            return module(features, mask)
        with mock.patch.object(module.neck, "forward", _through(module.neck.forward)):
            return module(features, mask)

    return run


def _through(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(levels: list[Tensor], canvases: Any) -> Any:
        return forward([_Backward.apply(level) for level in levels], canvases)

    return run


def second_fails_forward(rank: int) -> Failing:
    return in_forward if rank == 1 else never


def second_fails_backward(rank: int) -> Failing:
    return in_backward if rank == 1 else never


def all_fail_backward(rank: int) -> Failing:
    return in_backward


def train_watched(
    world: World, config: Config, folder: Path, name: str, options: dict[str, Any]
) -> tuple[Trainer, list[str]]:
    """Train; the trainer in the end, and the recordings that this process has evaluated."""
    evaluated: list[str] = []
    original = Trainer._detect

    def detect(self: Trainer, validation: EventDataset) -> Any:
        found = original(self, validation)
        evaluated.extend(found or {})
        return found

    with mock.patch.object(Trainer, "_detect", detect):
        run = RunFolder(folder / "runs" / f"tiny_{name}")
        return train(config, run, FitOptions(**{"eval_freq": 0, **options}), world), evaluated


def whole_training(world: World, config: Config, folder: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train, and give what this process has in the end."""
    trainer, evaluated = train_watched(world, config, folder, name, options)
    state = {key: value for key, value in trainer.state.state_dict().items() if key != "losses"}
    return {
        "tensors": all_tensors(state),
        "counters": state["counters"],
        "evaluated": evaluated,
        "files": trainer.folder.path if world.is_first else None,
    }


def half_training(world: World, config: Config, folder: Path, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """As `whole_training`, in float16 with loss scaling, which no CPU has by itself."""
    with mock.patch("eventide.engine.setup.choose_precision", return_value=("16-mixed", "")):
        return whole_training(world, config, folder, name, options)


def failing_by_the_disk(world: World) -> tuple[str, str]:
    """What each process raises where the first one cannot write."""

    def write() -> None:
        raise PermissionError(13, "Permission denied", "runs/tiny/lock")

    try:
        world.by_first(write)
    except EventideError as error:
        return type(error).__name__, str(error)
    return "none", ""


def waiting_beyond_patience(world: World, seconds: float) -> tuple[int | None, float]:
    """The first process works for longer than gradients are waited for; then both add up."""
    found = world.from_first(world.by_first(lambda: time.sleep(seconds) or 7))
    return found, float(world.sum(torch.ones(1)))


def training_in_two_precisions(world: World, config: Config, folder: Path) -> tuple[str, str]:
    """What each process raises where one machine knows bfloat16 and the other does not."""
    chosen = ("bf16-mixed", "16-mixed")[world.rank]
    with mock.patch("eventide.engine.setup.choose_precision", return_value=(chosen, "")):
        try:
            whole_training(world, config, folder, "mixed", {"amp": True})
        except EventideError as error:
            return type(error).__name__, str(error)
    return "none", ""
