"""The course of a training run: how many steps it has, and the learning rate of each, as pure functions of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from eventide.config import Config, OptimConfig

COSINE_FLOOR = 1e-8  # where the cosine after a warm-up ends, as published; without a warm-up it ends at 0


@dataclass(frozen=True)
class Plan:
    """How micro-batches make optimiser steps, and steps make epochs. Groups of micro-batches end with their epoch."""

    batches_per_epoch: int
    accum_steps: int
    epochs: int  # warm-up included
    warmup_epochs: int

    @classmethod
    def of(cls, config: Config, batches_per_epoch: int) -> Plan:
        """The plan of a configuration whose training split makes `batches_per_epoch` micro-batches."""
        warmup = config.opt.warmup_epochs if config.opt.warmup else 0
        return cls(batches_per_epoch, config.train_cfg.accum_steps, config.opt.epochs + warmup, warmup)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self.accum_steps)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        return self.warmup_epochs * self.steps_per_epoch

    def group_size(self, step: int) -> int:
        """Micro-batches of a step: `accum_steps`, and what is left for the last step of an epoch."""
        done = (step % self.steps_per_epoch) * self.accum_steps
        return min(self.accum_steps, self.batches_per_epoch - done)

    def first_batch(self, step: int) -> int:
        """Number of the first micro-batch of a step, counted from the start of the run."""
        epoch, within = divmod(step, self.steps_per_epoch)
        return epoch * self.batches_per_epoch + within * self.accum_steps


def learning_rate(step: int, plan: Plan, opt: OptimConfig) -> float:
    """Learning rate of optimiser step `step` (0 is the first).

    Warm-up rises from 0 at step 0 to the peak at the last step of the warm-up and stays there for one more step; then
    follows half a cosine down to nearly 0, or drops by `schedule_gamma` at the given epochs after the warm-up.
    """
    peak, warmup = opt.learning_rate, plan.warmup_steps
    if step < warmup:
        return 0.0 if step == 0 else peak * step / (warmup - 1)
    after = step - warmup
    if opt.schedule_type == "multistep":
        drops = sorted(epoch * plan.steps_per_epoch for epoch in opt.schedule_steps)
        return peak * opt.schedule_gamma ** bisect_right(drops, after)
    floor = COSINE_FLOOR if warmup else 0.0
    share = after / max(1, plan.total_steps - warmup)
    return floor + 0.5 * (peak - floor) * (1.0 + math.cos(math.pi * share))


def teacher_share(step: int, plan: Plan, share: float) -> float:
    """Share of the averaged model in the targets of optimiser step `step` (0 is the first): none in the first tenth of
    the training, when it knows nothing, then rising to `share` until three tenths are done.
    """
    done = step / plan.total_steps
    return share * min(max((done - 0.1) / 0.2, 0.0), 1.0)
