"""`python train.py CONFIG --output NAME`: train a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eventide.types import UsageError


def train(
    config: Annotated[Path, Parameter(help="Configuration file.")],
    *,
    output: Annotated[str | None, Parameter(help="Name of the run: <output_folder>/<config>_<NAME>.")] = None,
    resume: Annotated[str | None, Parameter(help="Checkpoint or run to go on from; auto: the run's own.")] = None,
    amp: Annotated[bool, Parameter(help="Mixed precision: bfloat16, or float16 with loss scaling.")] = False,
    accum_steps: Annotated[int | None, Parameter(help="Batches per optimiser step (train_cfg.accum_steps).")] = None,
    eval_freq: Annotated[int, Parameter(help="Epochs between evaluations; 0: at the end only.")] = 5,
    ckpt_freq: Annotated[int, Parameter(name=["--ckpt-freq", "-c"], help="Epochs between checkpoints.")] = 1,
    ckpt_steps: Annotated[int, Parameter(help="Also a checkpoint every this many steps; 0: none.")] = 0,
    print_freq: Annotated[int, Parameter(name=["--print-freq", "-p"], help="Steps between lines.")] = 10,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: a.b=value.")] = None,
) -> None:
    """Train a model; the run's folder gets its configuration, checkpoints, best model, logs and metrics.

    Ctrl-C (or SIGTERM) writes a checkpoint first; `--resume auto` goes on from it as if nothing had happened.
    """
    _check_counts({"--eval-freq": eval_freq, "--ckpt-freq": ckpt_freq, "--ckpt-steps": ckpt_steps}, least=0)
    _check_counts({"--print-freq": print_freq}, least=1)
    from eventide.config_loading import load_config

    overrides: Sequence[str] = list(set_ or ())
    if accum_steps is not None:
        overrides = [*overrides, f"train_cfg.accum_steps={accum_steps}"]
    loaded = load_config(config, overrides)

    from eventide.engine.fit import FitOptions
    from eventide.engine.run_folder import RunFolder
    from eventide.engine.setup import train as run_training

    options = FitOptions(amp, resume, eval_freq, ckpt_freq, ckpt_steps, print_freq)
    run_training(loaded, RunFolder.named(loaded.output_folder, config, output), options)


def _check_counts(counts: dict[str, int], least: int) -> None:
    for name, value in counts.items():
        if value < least:
            raise UsageError(f"{name} {value}: give {least} or more")
