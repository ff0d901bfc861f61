"""`torchrun --nproc_per_node=N train_ddp.py CONFIG --output NAME`: train a model in several processes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from eventide.cli.training_options import TrainingOptions
from eventide.types import UsageError


def train_ddp(
    config: Annotated[Path, Parameter(help="Configuration file.")],
    *,
    options: TrainingOptions | None = None,
    lr_scaling: Annotated[
        bool,
        Parameter(help="Multiply the learning rate by processes x accumulated batches.", negative="--no-lr-scaling"),
    ] = True,
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"] | None,
        Parameter(help="Whole copies of the model (ddp) or parts of it (fsdp); train_cfg.strategy."),
    ] = None,
    connect_timeout: Annotated[float, Parameter(help="Seconds to wait for the other processes to come.")] = 60,
) -> None:
    """Train a model in the processes that torchrun or srun has started, or in this one alone.

    A step is --nproc_per_node x --nnodes x --accum-steps batches. The first process writes what train.py writes.
    SIGTERM writes a checkpoint and exits with 0; processes that torchrun starts anew go on from the last checkpoint.
    """
    from eventide.engine.processes import find_launch, said_once

    with ExitStack() as stack:
        with said_once():
            options = options or TrainingOptions()
            options.check()
            if not 0 < connect_timeout < float("inf"):
                raise UsageError(f"--connect-timeout {connect_timeout}: give a number of seconds above 0")
            launch = find_launch()
            overrides = [] if lr_scaling else ["opt.scale_learning_rate=false"]
            overrides += [] if strategy is None else [f"train_cfg.strategy={strategy}"]
            loaded = options.load(config, *overrides)

            from eventide.engine.devices import pick_device
            from eventide.engine.rendezvous import joined
            from eventide.engine.run_folder import RunFolder
            from eventide.engine.setup import train as run_training

            folder = RunFolder.named(loaded.output_folder, config, options.output)
            world = stack.enter_context(joined(launch, pick_device(loaded.device).type, connect_timeout))
        run_training(loaded, folder, options.for_fit(scale_rate=True), world)
