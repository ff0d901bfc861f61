"""`eventide bench`: one configuration by length and batch size."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from eventide.config import Config
from eventide.engine.compiling import refuse_without_compiler
from eventide.engine.devices import choose_precision, pick_device
from eventide.engine.measure.matrix_rate import MatrixProduct
from eventide.engine.measure.operations import count_operations, count_parameters
from eventide.engine.measure.peak_memory import MemoryJob, measure_memory
from eventide.engine.measure.plan import MeasureOptions, OnProgress, Turns, machine, warm_up_rounds
from eventide.engine.measure.results import Row, Timing, Work
from eventide.engine.measure.scaling import fit_rows
from eventide.engine.measure.turns import Job, run_in_turn
from eventide.engine.measure.workload import Workload, make_workload, random_batch
from eventide.engine.memory import keep_freed_memory
from eventide.engine.weights import describe_model
from eventide.models import build
from eventide.types import EventideError

FORMAT = "eventide-bench-1"


@dataclass
class Bench:
    """The measurement of a configuration; `to_dict` may be asked at any time, also after an interruption."""

    config: Config
    name: str  # of the configuration, for tables
    options: MeasureOptions
    rows: list[Row]
    device: torch.device = field(init=False)
    parameters: int = 0
    rates: list[float] = field(default_factory=list)  # operations per second of matrix products, one per round
    complete: bool = False

    def __post_init__(self) -> None:
        self.device = pick_device(self.options.device)
        if self.options.threads is not None:
            torch.set_num_threads(self.options.threads)
        if self.config.train_cfg.compile and "training" in self._works():
            refuse_without_compiler(self.device)

    @property
    def precision(self) -> str:
        return choose_precision(self.device, self.options.amp)[0]

    def run(self, on_progress: OnProgress, on_round: Callable[[], object] = lambda: None) -> None:
        """Measure everything; `on_round` is called whenever there is something new worth keeping."""
        keep_freed_memory()
        options = self.options
        rounds = warm_up_rounds(options, self.device) + options.runs
        turns = Turns(len(self.rows) * (2 + rounds), on_progress)
        self.parameters = count_parameters(build(self.config).detector)
        for row in self.rows:
            turns("counting operations", row.name)
            row.operations = count_operations(self.config, row.length, row.batch, row.work == "training")
        on_round()
        for row in self.rows:
            turns("peak memory", row.name)
            fill_memory(row, self.config, options.amp, self.device)
        on_round()
        self._time(turns, on_round)
        self.complete = True
        turns.finish()

    def _time(self, turns: Turns, on_round: Callable[[], object]) -> None:
        loads = {work: make_workload(work, self.config, self.device, self.options.amp) for work in self._works()}
        jobs = [
            Job(row.name, row, partial(run_row, loads[row.work], self.config, row, self.device)) for row in self.rows
        ]
        product = MatrixProduct(self.device, product_dtype(self.precision))

        def between() -> None:
            self.rates.append(product.rate())
            on_round()

        run_in_turn(jobs, self.options.runs, warm_up_rounds(self.options, self.device), turns, between)

    def _works(self) -> list[Work]:
        return list(dict.fromkeys(row.work for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON, tables and plots."""
        rate = statistics.median(self.rates) if self.rates else None
        return {
            "format": FORMAT,
            "config": self.name,
            "model": describe_model(self.config),
            "parameters": self.parameters,
            "precision": self.precision,
            "machine": machine(self.device),
            "matrix_rate": rate,
            "rows": [row.to_dict(rate) for row in self.rows],
            "fits": fit_rows(self.rows),
            "complete": self.complete,
        }


def make_rows(
    works: Sequence[Work], lengths: Sequence[int], batches: Sequence[int], training: Sequence[int], training_batch: int
) -> list[Row]:
    """The sizes to measure: training at its lengths with its batch size, inference at all lengths and batch sizes."""
    rows = [Row("training", length, training_batch) for length in training] if "training" in works else []
    if "inference" in works:
        rows += [Row("inference", length, batch) for batch in batches for length in lengths]
    return rows


def default_lengths(config: Config) -> list[int]:
    """A quarter of the configured length to four times it."""
    longest = config.dataset.max_seq_len or 1
    return sorted({max(int(longest * factor), 1) for factor in (0.25, 0.5, 1, 2, 4)})


def run_row(workload: Workload, config: Config, row: Row, device: torch.device) -> Timing:
    """One run on features that were just made, as a loader's are."""
    return workload.run(random_batch(config, row.length, row.batch).to(device))


def fill_memory(row: Row, config: Config, amp: bool, device: torch.device) -> None:
    """Measure a row's memory; where it runs out, the row says so and is not timed."""
    job = MemoryJob(config, row.work, row.length, row.batch, amp, torch.get_num_threads())
    try:
        row.memory = measure_memory(job, device)
    except EventideError as error:
        row.error = str(error)


def product_dtype(precision: str) -> torch.dtype:
    """The type that matrix products run in."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
