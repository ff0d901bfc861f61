"""Run by the tests in a process of its own: steps under a limit of the address space that a whole batch does not fit.

Prints what was said, and by how much the gradients differ from those with memory enough, relative to the largest.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import torch

from eventide.data.steps import Piece
from eventide.engine.devices import make_fabric
from eventide.engine.ema import WeightAverage
from eventide.engine.gradients import StepGradients
from eventide.engine.optim import build_optimizer
from eventide.engine.reduction import NoReduction
from eventide.engine.state import TrainingState
from eventide.engine.world import World
from eventide.models import build
from eventide.types import Batch, Timeline
from tests.engine.making import CHANNELS, tiny_config

LENGTH = 4096
Gradients = dict[str, torch.Tensor]


def used() -> int:
    """Bytes of address space at the highest so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmPeak:")[2].split()[0])


def step_gradients(folder: Path, device: torch.device, **backbone: object) -> StepGradients:
    """For a small network on long sequences, so that what a step needs is its activations."""
    sizes = {"n_embd": 32, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5, **backbone}
    config = tiny_config(
        folder,
        dataset={"max_seq_len": LENGTH},
        model={"backbone": sizes, "head_num_layers": 2},
        train_cfg={"auto_microbatch": True, "droppath": 0.0, "dropout": 0.0},
    )
    torch.manual_seed(0)
    model = build(config)
    model.set_longest_event(64)
    detector = model.detector.to(device)
    criterion = model.criterion.to(device)
    optimizer = build_optimizer(config.opt, detector, criterion)
    state = TrainingState(detector, criterion, WeightAverage(detector, 0.9, ramp=False), optimizer)
    fabric, _ = make_fabric(device, "32-true", World().launch)
    return StepGradients(config, fabric, World(), detector, state, NoReduction(), print)


def batch(count: int) -> Batch:
    """`count` sequences with one event each."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, LENGTH, CHANNELS, generator=generator).transpose(1, 2)
    mask = torch.ones(count, LENGTH, dtype=torch.bool)
    segments, label_ids = torch.tensor([[[10.0, 40.0]]] * count), torch.zeros(count, 1, dtype=torch.int64)
    lengths, timelines = [LENGTH] * count, [Timeline(10.0, 5.0, 5.0)] * count
    return Batch([f"rec{row}" for row in range(count)], features, mask, lengths, segments, label_ids, timelines)


def gradients(steps: StepGradients, count: int) -> Gradients:
    """Those of one step of `count` sequences, as if it was the first."""
    steps.state.criterion.loss_normalizer.fill_(5.0)
    losses = steps.compute(0, [(Piece(0, np.arange(count)), batch(count))], 0.0, (0.0, 0.0))
    return {
        name: parameter.grad * losses.factor
        for name, parameter in steps.state.detector.named_parameters()
        if parameter.grad is not None
    }


def difference(found: Gradients, expected: Gradients) -> float:
    """The largest, relative to the largest gradient."""
    largest = max(tensor.abs().max().item() for tensor in expected.values())
    return max((found[name] - tensor).abs().max().item() for name, tensor in expected.items()) / largest


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    steps = step_gradients(folder, torch.device("cpu"))
    for count in (1, 2):  # kernels that are made for a size take address space of their own: now, while there is some
        gradients(steps, count)
    before = used()
    gradients(steps, 4)
    half = used() - before
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used() + int(0.6 * half), unlimited[1]))
    found = gradients(steps, 8)
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    print("micro-batches of", steps.most_sequences)
    steps.most_sequences = None
    print("difference", difference(found, gradients(steps, 8)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
