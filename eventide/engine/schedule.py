"""The course of a training run: how many steps it has, and the learning rate of each, as pure functions of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from eventide.config import Config, OptimConfig

COSINE_FLOOR = 1e-8  # where the cosine after a warm-up ends, as published; without a warm-up it ends at 0


@dataclass(frozen=True)
class Plan:
    """How batches make optimiser steps, and steps make epochs; it stays the same for the whole run, however many
    processes go on with it. The last step of an epoch may have fewer batches.
    """

    batches_per_epoch: int
    batches_per_step: int  # processes x accumulation, when the run began
    epochs: int  # warm-up included
    warmup_epochs: int
    rate_scale: float = 1.0  # what the learning rate is multiplied by, since steps are larger

    @classmethod
    def of(cls, config: Config, batches_per_epoch: int, batches_per_step: int = 1, rate_scale: float = 1.0) -> Plan:
        """The plan of a configuration whose training split makes `batches_per_epoch` batches."""
        warmup = config.opt.warmup_epochs if config.opt.warmup else 0
        return cls(batches_per_epoch, batches_per_step, config.opt.epochs + warmup, warmup, rate_scale)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches_per_epoch // self.batches_per_step)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def warmup_steps(self) -> int:
        return self.warmup_epochs * self.steps_per_epoch

    def first_batch(self, step: int) -> int:
        """A number for the first batch of a step that no other batch of the run has."""
        return step * self.batches_per_step


def learning_rate(step: int, plan: Plan, opt: OptimConfig) -> float:
    """Learning rate of optimiser step `step` (0 is the first).

    Warm-up rises from 0 at step 0 to the peak at the last step of the warm-up and stays there for one more step; then
    follows half a cosine down to nearly 0, or drops by `schedule_gamma` at the given epochs after the warm-up.
    """
    peak, warmup = opt.learning_rate * plan.rate_scale, plan.warmup_steps
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
