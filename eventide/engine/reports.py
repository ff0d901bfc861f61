"""What a training tells of its steps, epochs and evaluations: lines, numbers for programs, and hints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.engine.evaluate import named_values, table
from eventide.engine.gradients import POSITIONS
from eventide.engine.hints import ConvergenceHints, DataHint, highest_scores, silent_classes
from eventide.engine.logs import MetricsFile, NoLog, TensorBoard
from eventide.engine.meters import Window, duration_text
from eventide.engine.progress import Reporter
from eventide.engine.schedule import Plan, learning_rate
from eventide.engine.state import TrainingState
from eventide.evaluation.points import PointMetrics
from eventide.evaluation.segments import SegmentMetrics
from eventide.models.criterion import COUNT
from eventide.types import Detections


class Reports:
    """Every process has one, since reading the meters starts them afresh; that of the first alone is heard."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        batch_plan: BatchPlan,
        reporter: Reporter,
        metrics: MetricsFile | NoLog,
        curves: TensorBoard | NoLog,
        hints: tuple[DataHint, ConvergenceHints],
    ) -> None:
        self.config, self.plan, self.batch_plan = config, plan, batch_plan
        self.reporter, self.metrics, self.curves = reporter, metrics, curves
        self.data_hint, self.hints = hints
        self._speed = ""  # loss and rate at the last report, for the bar

    def steps(self, state: TrainingState, norm: float, window: Window) -> None:
        """Print and log the steps since the last report; `norm` is the last one's gradient norm."""
        counters, plan = state.counters, self.plan
        means = state.losses.read()
        epoch = (counters.step - 1) // plan.steps_per_epoch + 1
        lr = learning_rate(counters.step - 1, plan, self.config.opt)
        left = duration_text((plan.total_steps - counters.step) / window.rate)
        parts = ", ".join(
            f"{name.removesuffix('_loss')} {value:.4f}" for name, value in means.items() if "loss" in name
        )
        final = f"{means['final_loss']:.4f}" if means else "not finite"
        self._speed = f"loss {final}, {window.rate:.2f} steps/s, {left} left"
        self.reporter.step_line(
            f"epoch {epoch}/{plan.epochs}, step {counters.step}/{plan.total_steps}, loss {parts or 'not finite'}, "
            f"lr {lr:.3g}, {window.rate:.2f} steps/s, {left} left, {window.share:.0%} waiting for data"
        )
        values = {**means, "learning_rate": lr, "gradient_norm": norm if math.isfinite(norm) else -1.0}
        if means:
            values["positive_share"] = means[COUNT] / max(means[POSITIONS], 1.0)
        values["dead_classes"] = state.epoch.dead_classes()
        values["padding_share"] = self.batch_plan.padding_share(epoch - 1)
        values |= {"steps_per_second": window.rate, "waiting_share": window.share}
        entry = {"kind": "train", "step": counters.step, "epoch": epoch, "bad_steps": counters.bad_total}
        self._log(entry, "train", values)
        self.data_hint.add(window)

    def epoch(self, state: TrainingState) -> None:
        """An epoch is over."""
        self.hints.epoch(state.counters.step // self.plan.steps_per_epoch, state.epoch.end())

    def bar(self, step: int) -> None:
        """Show how far the training is."""
        epoch, total = (step - 1) // self.plan.steps_per_epoch + 1, self.plan.total_steps
        self.reporter.bar(f"epoch {epoch}/{self.plan.epochs}", step, total, self._speed)

    def evaluation(
        self,
        head: str,
        step: int,
        epoch: int,
        metrics: SegmentMetrics | PointMetrics,
        dataset: EventDataset,
        detections: Mapping[str, Detections] | None,
    ) -> None:
        """Print and log an evaluation; `detections` are given where they have classes."""
        for line in [head, *table(metrics)]:
            self.reporter.line(line)
        values = named_values(metrics)
        highest = highest_scores(detections.values(), dataset.recordings) if detections is not None else {}
        if highest:
            values["silent_classes"] = len(silent_classes(highest))
        self._log({"kind": "evaluation", "step": step, "epoch": epoch}, "validation", values)
        self.hints.evaluation(highest)

    def _log(self, entry: dict[str, Any], prefix: str, values: Mapping[str, float]) -> None:
        self.metrics.write({**entry, **values})
        self.curves.write({f"{prefix}/{name}": value for name, value in values.items()}, entry["step"])
