"""How a run is cut into steps: decided when it begins, and kept by whoever goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.engine.compiling import LENGTHS_TO_TRY, LITTLE_PADDING
from eventide.engine.schedule import Plan
from eventide.types import UsageError


def plan_run(
    config: Config, data: EventDataset, scale_rate: bool, processes: int, found: tuple[Path, Mapping[str, Any]] | None
) -> tuple[BatchPlan, Plan]:
    """The batches and steps of a run on so many processes, or of the one that goes on from the checkpoint `found`:
    its steps stay as they are, whoever shares them.

    `scale_rate` says whether the learning rate grows with the batches of a step, where the configuration does not.

    Raises:
        UsageError: the learning rate of the run that goes on was scaled, and now is not to be, or the other way round.
        EventideError: an epoch has no batch.
    """
    batches_per_step = processes * config.train_cfg.accum_steps
    wanted = config.opt.scale_learning_rate
    scaled = scale_rate if wanted is None else wanted
    rate_scale = float(batches_per_step) if scaled else 1.0
    if found is not None:
        batches_per_step, rate_scale = _stored(found[1])
        if batches_per_step > 1 and wanted is not None and wanted != (rate_scale > 1):
            raise UsageError(
                f"{found[0]} belongs to a run whose learning rate was {'' if rate_scale > 1 else 'not '}multiplied by "
                "the batches of a step; go on the same way, or start a new run with another --output"
            )
    batch_plan = BatchPlan.of(data, config.loader, batches_per_step)
    if config.train_cfg.compile and config.loader.num_lengths is None:
        batch_plan = with_few_lengths(batch_plan)
    return batch_plan, Plan.of(config, batch_plan.batches_per_epoch, batches_per_step, rate_scale)


def with_few_lengths(plan: BatchPlan) -> BatchPlan:
    """`plan` with a few padded lengths for the compiler: as many as keep padding low, the fewest where none do.

    None do where members are random (`longest`): there the pairs pad, not the lengths.
    """
    tried = [replace(plan, num_lengths=count) for count in LENGTHS_TO_TRY]
    return next((few for few in tried if few.padding_share(0) < LITTLE_PADDING), tried[0])


def _stored(content: Mapping[str, Any]) -> tuple[int, float]:
    """Batches of a step and scale of the learning rate in a checkpoint."""
    plan = content.get("plan") or {}
    return int(plan.get("batches_per_step", 1)), float(plan.get("rate_scale", 1.0))


def step_lines(config: Config, plan: Plan, processes: int) -> list[str]:
    """What a step is made of and what that does to the learning rate, for people; nothing where it is one batch."""
    if plan.batches_per_step == 1 and processes == 1:
        return []
    batch, count = config.loader.batch_size, plan.batches_per_step
    each = -(-count // processes)
    lines = [f"{processes} process(es): a step is {count} batch(es) of {batch} recording(s), up to {each} each"]
    if processes * config.train_cfg.accum_steps != count:
        lines[0] += f"; the run began with {count} batches per step and keeps them"
    if count * batch < processes:
        lines.append(
            f"warning: {processes - count * batch} process(es) have nothing to do in a step of {count * batch}"
        )
    rate = config.opt.learning_rate
    if plan.rate_scale != 1:
        lines.append(
            f"learning rate {rate:g} x {plan.rate_scale:g}, since a step is {plan.rate_scale:g} batches: "
            f"{rate * plan.rate_scale:g} (--no-lr-scaling turns that off)"
        )
    elif count > 1:
        lines.append(f"learning rate {rate:g}, not multiplied by the {count} batches of a step")
    return lines
