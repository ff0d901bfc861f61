"""`eventide bench --ablation`: v1 and v2 switch by switch, measured in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from eventide.config import Config
from eventide.engine.compiling import refuse_without_compiler
from eventide.engine.devices import pick_device
from eventide.engine.measure.bench import fill_memory, run_row
from eventide.engine.measure.operations import count_operations, count_parameters
from eventide.engine.measure.plan import MeasureOptions, OnProgress, Turns, machine, warm_up_rounds
from eventide.engine.measure.results import Row
from eventide.engine.measure.turns import Job, run_in_turn
from eventide.engine.measure.variants import VARIANTS, Variant, variant_config
from eventide.engine.measure.workload import make_workload
from eventide.engine.memory import keep_freed_memory
from eventide.models import build
from eventide.types import EventideError

FORMAT = "eventide-ablation-1"


@dataclass
class VariantResult:
    """A row of the table: training and inference of one variant."""

    variant: Variant
    config: Config | None
    training: Row
    inference: Row
    parameters: int | None = None
    reason: str | None = None  # why it is not available

    @property
    def rows(self) -> list[Row]:
        return [self.training, self.inference]

    def give_up(self, reason: str) -> None:
        """Leave the variant out, saying why."""
        self.reason = reason
        for row in self.rows:
            row.error = row.error or reason


@dataclass
class Ablation:
    """The table of one configuration; `to_dict` may be asked at any time, also after an interruption."""

    config: Config
    name: str  # of the configuration, for the table
    options: MeasureOptions
    length: int
    device: torch.device = field(init=False)
    results: list[VariantResult] = field(init=False)
    complete: bool = False

    def __post_init__(self) -> None:
        self.device = pick_device(self.options.device)
        if self.options.threads is not None:
            torch.set_num_threads(self.options.threads)
        self.results = [self._plan(variant) for variant in VARIANTS]

    def _plan(self, variant: Variant) -> VariantResult:
        training = Row("training", self.length, self.config.loader.batch_size)
        result = VariantResult(variant, None, training, Row("inference", self.length, 1))
        try:
            if variant.compiled:
                refuse_without_compiler(self.device)
            result.config = variant_config(self.config, variant)
        except EventideError as error:
            result.give_up(f"not available: {error}")
        return result

    def run(self, on_progress: OnProgress, on_round: Callable[[], object] = lambda: None) -> None:
        """Measure everything; `on_round` is called whenever there is something new worth keeping."""
        keep_freed_memory()
        options = self.options
        warm_up = warm_up_rounds(options, self.device)
        turns = Turns(len(self.results) * (1 + 2 * (1 + warm_up + options.runs)), on_progress)
        for result in self.results:
            turns("counting operations", result.variant.label)
            self._count(result)
        for result in self.results:
            for row in result.rows:
                turns("peak memory", f"{result.variant.label}: {row.name}")
                if row.error is None and result.config is not None:
                    fill_memory(row, result.config, result.variant.amp, self.device)
        on_round()
        run_in_turn(self._jobs(), options.runs, warm_up, turns, on_round)
        self.complete = True
        turns.finish()

    def _count(self, result: VariantResult) -> None:
        if result.config is None:
            return
        result.parameters = count_parameters(build(result.config).detector)
        for row in result.rows:
            row.operations = count_operations(result.config, row.length, row.batch, row.work == "training")

    def _jobs(self) -> list[Job]:
        jobs = []
        for result in self.results:
            if result.config is None:
                continue
            for row in result.rows:
                if row.error is None:
                    workload = make_workload(row.work, result.config, self.device, result.variant.amp)
                    run = partial(run_row, workload, result.config, row, self.device)
                    jobs.append(Job(f"{result.variant.label}: {row.name}", row, run))
        return jobs

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON and tables; ratios are to the first row."""
        first = self.results[0]
        return {
            "format": FORMAT,
            "config": self.name,
            "length": self.length,
            "training_batch": first.training.batch,
            "machine": machine(self.device),
            "rows": [self._row(result, first) for result in self.results],
            "complete": self.complete,
        }

    @staticmethod
    def _row(result: VariantResult, first: VariantResult) -> dict[str, Any]:
        variant, training, inference = result.variant, result.training, result.inference
        return {
            "label": variant.label,
            "reason": result.reason or training.error or inference.error,
            "parameters": result.parameters,
            "training_time_ratio": _ratio(training.seconds, first.training.seconds),
            "training_memory_ratio": _ratio(_bytes(training), _bytes(first.training)),
            "inference_time_ratio": _ratio(inference.seconds, first.inference.seconds),
            "inference_memory_ratio": _ratio(_bytes(inference), _bytes(first.inference)),
            "guide_time_ratio": variant.guide_time,
            "guide_memory_ratio": variant.guide_memory,
            "training": training.to_dict(),
            "inference": inference.to_dict(),
        }


def _bytes(row: Row) -> int | None:
    return None if row.memory is None else row.memory.in_all


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base
