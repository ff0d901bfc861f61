"""`python train.py CONFIG --output NAME`: train a model in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eventide.cli.training_options import TrainingOptions
from eventide.types import UsageError


def train(
    config: Annotated[Path, Parameter(help="Configuration file.")],
    *,
    options: TrainingOptions | None = None,
) -> None:
    """Train a model; the run's folder gets its configuration, checkpoints, best model, logs and metrics.

    Ctrl-C (or SIGTERM) writes a checkpoint first; `--resume auto` goes on from it as if nothing had happened.
    """
    options = options or TrainingOptions()
    options.check()
    from eventide.engine.processes import find_launch, said_once

    with said_once():
        launch = find_launch()
        if launch.size > 1:
            raise UsageError(
                f"this is one of {launch.size} processes; train.py is for one: start train_ddp.py with them"
            )
    loaded = options.load(config)

    from eventide.engine.run_folder import RunFolder
    from eventide.engine.setup import train as run_training

    run_training(loaded, RunFolder.named(loaded.output_folder, config, options.output), options.for_fit())
