"""The options that `train.py` and `train_ddp.py` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from eventide.types import UsageError

if TYPE_CHECKING:
    from eventide.config import Config
    from eventide.engine.fit import FitOptions


@Parameter(name="*")
@dataclass
class TrainingOptions:
    """What the command line says about a training."""

    output: Annotated[str | None, Parameter(help="Name of the run: <output_folder>/<config>_<NAME>.")] = None
    resume: Annotated[str | None, Parameter(help="Checkpoint or run to go on from; auto: the run's own.")] = None
    amp: Annotated[bool, Parameter(help="Mixed precision: bfloat16, or float16 with loss scaling.")] = False
    accum_steps: Annotated[int | None, Parameter(help="Batches per optimiser step (train_cfg.accum_steps).")] = None
    eval_freq: Annotated[int, Parameter(help="Epochs between evaluations; 0: at the end only.")] = 5
    ckpt_freq: Annotated[int, Parameter(name=["--ckpt-freq", "-c"], help="Epochs between checkpoints.")] = 1
    ckpt_steps: Annotated[int, Parameter(help="Also a checkpoint every this many steps; 0: none.")] = 0
    print_freq: Annotated[int, Parameter(name=["--print-freq", "-p"], help="Steps between lines.")] = 10
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: a.b=value.")] = None

    def check(self) -> None:
        """Raise UsageError for a count that makes no sense."""
        counts = {"--eval-freq": self.eval_freq, "--ckpt-freq": self.ckpt_freq, "--ckpt-steps": self.ckpt_steps}
        for name, value in counts.items():
            if value < 0:
                raise UsageError(f"{name} {value}: give 0 or more")
        if self.print_freq < 1:
            raise UsageError(f"--print-freq {self.print_freq}: give 1 or more")

    def load(self, path: Path, *more: str) -> Config:
        """The configuration in the file, with what these options (and `more`, as for `--set`) change in it."""
        from eventide.config_loading import load_config

        overrides = [*(self.set_ or ()), *more]
        if self.accum_steps is not None:
            overrides.append(f"train_cfg.accum_steps={self.accum_steps}")
        return load_config(path, overrides)

    def for_fit(self, scale_rate: bool = False) -> FitOptions:
        """As the engine takes them."""
        from eventide.engine.fit import FitOptions

        frequencies = (self.eval_freq, self.ckpt_freq, self.ckpt_steps, self.print_freq)
        return FitOptions(self.amp, self.resume, *frequencies, scale_rate)
