"""Training: the loop, readable from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import training_steps
from eventide.data.steps import Piece, Share, step_pieces
from eventide.engine import guard
from eventide.engine.checkpoint import checkpoint_path
from eventide.engine.checkpoint_writer import CheckpointWriter
from eventide.engine.compiling import CompiledDetector, compile_failure
from eventide.engine.evaluate import detect_dataset, in_order, score
from eventide.engine.gradients import StepGradients, StepLosses
from eventide.engine.hints import HARD, hints_of
from eventide.engine.inference import Inference
from eventide.engine.interrupt import Interruption, StopWaiting
from eventide.engine.logs import MetricsFile, NoLog, TensorBoard
from eventide.engine.meters import Stopwatch, duration_text
from eventide.engine.model_keeper import ModelKeeper, refuse_incomplete
from eventide.engine.optim import scale_gradients, set_learning_rate
from eventide.engine.progress import Reporter
from eventide.engine.reports import Reports
from eventide.engine.run_folder import RunFolder
from eventide.engine.schedule import Plan, learning_rate, teacher_share
from eventide.engine.state import TrainingState
from eventide.engine.world import World, is_lost_connection
from eventide.models.registry import DecodesOutputs
from eventide.types import Batch, Detections, EventideError


@dataclass(frozen=True)
class FitOptions:
    """What the command line says beside the configuration."""

    amp: bool = False
    resume: str | None = None  # path of a checkpoint or run, or `auto`
    eval_freq: int = 5  # epochs between evaluations; 0: at the end only
    checkpoint_epochs: int = 1  # epochs between checkpoints; 0: at the end only
    checkpoint_steps: int = 0  # optimiser steps between checkpoints; 0: off
    print_freq: int = 10  # optimiser steps between lines
    scale_rate: bool = False  # multiply the learning rate by the batches per step, where the configuration is silent


@dataclass
class Trainer:
    """A training that is set up (`eventide.engine.setup`): `run` takes it from where its state is to the end."""

    config: Config
    options: FitOptions
    plan: Plan
    folder: RunFolder
    fabric: Fabric
    world: World
    share: Share
    gradients: StepGradients
    state: TrainingState
    decoder: DecodesOutputs
    data: EventDataset
    batch_plan: BatchPlan
    validation: EventDataset | None
    labels: list[str]
    fps: float | None
    reporter: Reporter
    metrics: MetricsFile | NoLog
    curves: TensorBoard | NoLog

    def __post_init__(self) -> None:
        self.watch = Stopwatch()
        train = self.config.train_cfg
        self.writer = CheckpointWriter(train.keep_checkpoints, train.async_checkpoints, self.reporter.line)
        self._saved_at, self._saved_step = time.monotonic(), -1
        self._interruption = Interruption()
        # processes asked to stop, those of them by SIGTERM, as all know since the last step
        self._asked = 0.0, 0.0
        self._is_late = False  # whether a checkpoint is due by the clock of the first process
        hints = hints_of(self.config, self.plan, self.data, self.world.launch.local_size, self.reporter.line)
        self.reports = Reports(self.config, self.plan, self.batch_plan, self.reporter, self.metrics, self.curves, hints)
        self.keeper = ModelKeeper(self.folder, self.config, self.labels, self.fps, self.reporter)

    def run(self) -> None:
        """Train to the end, evaluate, keep the best and the last model.

        Raises:
            EventideError: too many steps were not finite, memory ran out, or another process is gone.
            KeyboardInterrupt: somebody asked to stop; a checkpoint was written.
            SystemExit: with code 0, a scheduler asked to stop (SIGTERM); a checkpoint was written.
        """
        try:
            with self._interruption, closing(self.writer):
                self._evaluate_if_due()
                first, workers = self.state.counters.step, self.config.loader.num_workers
                steps = training_steps(
                    self.data, self.batch_plan, num_workers=workers, first_step=first, share=self.share
                )
                with closing(steps):  # type: ignore[type-var]  # a generator
                    self._loop(zip(step_pieces(self.batch_plan, self.share, first), steps, strict=False))
                self._finish()
        except (RuntimeError, MemoryError) as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        """What to say instead of `error`; itself where it is not known."""
        if guard.is_out_of_memory(error):
            fused = bool(self.config.model.backbone.use_flash_attn)
            return guard.out_of_memory(*self.gradients.work, self._kept(), fused)
        if is_lost_connection(error):
            return guard.lost_connection(error, self._kept())
        if failure := compile_failure(error):
            self._stop_if_compiler_was_stopped()
            return failure
        return error

    def _kept(self) -> Path | None:
        """The checkpoint to go on from, as far as this process knows; only the first one has written any."""
        return (None if self.world.is_first else self.folder.newest()) or self.writer.last

    def _loop(self, steps: Iterator[tuple[tuple[int, list[Piece]], list[Batch]]]) -> None:
        counters, plan = self.state.counters, self.plan
        self.state.detector.train()
        self.state.criterion.train()
        self.watch.start()
        while counters.step < plan.total_steps:
            norm = self._step(steps)
            if counters.step % self.options.print_freq == 0 or counters.step == plan.total_steps:
                self.reports.steps(self.state, norm, self.watch.read())
            if counters.step % plan.steps_per_epoch == 0:
                self.reports.epoch(self.state)
            self._show_bar()
            if self._checkpoint_due():
                self._save()
            self._stop_if_asked()
            if counters.step % plan.steps_per_epoch == 0:
                self._evaluate_if_due()

    def _step(self, steps: Iterator[tuple[tuple[int, list[Piece]], list[Batch]]]) -> float:
        """One optimiser step: gradients, the guard, the update. Returns the gradient norm before clipping."""
        state, counters, config = self.state, self.state.counters, self.config
        (_, pieces), batches = self._next(steps)
        rate = learning_rate(counters.step, self.plan, config.opt)
        share = teacher_share(counters.step, self.plan, config.train_cfg.teacher_share or 0.0)
        work = list(zip(pieces, batches, strict=True))
        flags = [*self._flags(), self._lateness(), *self._waits()]
        losses = self.gradients.compute(self.plan.first_batch(counters.step), work, share, flags)
        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        norm, factor = self._read(losses)
        if finite := math.isfinite(norm):
            limit = config.train_cfg.clip_grad_l2norm
            if clipped := 0 < limit < norm:
                factor *= limit / (norm + 1e-6)
            if factor != 1.0:
                scale_gradients(state.optimizer, factor)
            set_learning_rate(state.optimizer, rate)
            state.optimizer.step()
            state.average.update()
            state.losses.add(losses.names, losses.values, clipped)
            state.epoch.add(losses.final, losses.per_class, hard=0 < HARD * limit < norm)
        if state.scaler is not None:
            state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        counters.step += 1
        self._count(finite, [name for batch in batches for name in batch.ids])
        return norm

    def _next(
        self, steps: Iterator[tuple[tuple[int, list[Piece]], list[Batch]]]
    ) -> tuple[tuple[int, list[Piece]], list[Batch]]:
        """The batches of the next step."""
        try:
            with self.watch.waiting(), self._left_when_asked():
                return next(steps)
        except StopWaiting:
            self._stop_if_asked()
            raise
        except EventideError as error:
            # a signal to the whole process group may end loader processes before this one has looked at it
            self._stop_if_asked()
            raise guard.lost_data(error, self._kept()) from error

    def _left_when_asked(self) -> AbstractContextManager[None]:
        """Where data is read, perhaps without end: a process alone that is asked to stop leaves with StopWaiting;
        several finish together what they are at.
        """
        return self._interruption.ending_wait() if self.world.size == 1 else nullcontext()

    def _flags(self) -> tuple[float, float]:
        """Whether this process was asked to stop, and by SIGTERM."""
        return float(self._interruption.requested), float(self._interruption.is_termination)

    def _lateness(self) -> float:
        """Whether a checkpoint is due by the clock: the first process's, since all must save together."""
        minutes = self.config.train_cfg.checkpoint_minutes
        return float(self.world.is_first and 0 < 60 * minutes < time.monotonic() - self._saved_at)

    def _waits(self) -> list[float]:
        """Seconds that this process has waited for the data of the step, at its place among all processes."""
        return [self.watch.last_wait if rank == self.world.rank else 0.0 for rank in range(self.world.size)]

    def _read(self, losses: StepLosses) -> tuple[float, float]:
        """The gradient norm, NaN where a loss is not finite, and the factor of the gradients: the one wait for the
        device in a step.
        """
        norm = self.gradients.reduction.norm(self.state.optimizer).to(losses.factor.device)
        norm = norm * losses.factor + 0.0 * losses.values.sum()
        read = torch.cat((torch.stack((norm, losses.factor)), losses.flags)).tolist()
        value, factor, asked, terminated, late, *waits = read
        self._asked, self._is_late = (asked, terminated), late > 0
        self.watch.step(max(waits))
        return value, factor

    def _count(self, finite: bool, ids: list[str]) -> None:
        """Count good and skipped steps; stop after too many skipped ones in a row."""
        counters = self.state.counters
        if finite:
            counters.bad_in_a_row = 0
            return
        counters.bad_in_a_row += 1
        counters.bad_total += 1
        ids = [name for part in self.world.everyone(ids) for name in part]
        if counters.bad_in_a_row >= self.config.train_cfg.max_bad_steps:
            self.world.together(lambda: self._stop_since_not_finite(ids))
        self.reporter.line(
            f"warning: step {counters.step}: loss or gradient is not finite, step skipped "
            f"({counters.bad_in_a_row} in a row); recordings: {', '.join(ids)}"
        )

    def _stop_since_not_finite(self, ids: list[str]) -> None:
        raise guard.not_finite(self.state.counters.bad_in_a_row, ids, self.writer.last)

    def _show_bar(self) -> None:
        self.reports.bar(self.state.counters.step)

    def _checkpoint_due(self) -> bool:
        step, options, plan = self.state.counters.step, self.options, self.plan
        if step == plan.total_steps:
            return True
        epoch, within = divmod(step, plan.steps_per_epoch)
        if within == 0 and options.checkpoint_epochs and epoch % options.checkpoint_epochs == 0:
            return True
        if self._is_late:
            return True
        return options.checkpoint_steps > 0 and step % options.checkpoint_steps == 0

    def _save(self) -> None:
        """Write a checkpoint of the present state; the first process does, for all."""
        with self.watch.paused():
            content = self.state.state_dict()
            if self.world.is_first:
                content = {
                    "config": self.config.model_dump(mode="json"),
                    "labels": self.labels,
                    "fps": self.fps,
                    "amp": self.options.amp,
                    "plan": asdict(self.plan),
                    **content,
                }
                self.writer.write(checkpoint_path(self.folder.checkpoints, self.state.counters.step), content)
        self._saved_at, self._saved_step = time.monotonic(), self.state.counters.step

    def _stop_if_asked(self) -> None:
        """Save and stop, where that was asked for; of several processes all know of it, and all stop."""
        asked, terminated = self._flags() if self.world.size == 1 else self._asked
        if not asked:
            return
        self.reporter.close_bar()
        if self._saved_step != self.state.counters.step:
            self._save()
        self.world.by_first(self.writer.finish)
        self.reporter.line(f"interrupted: checkpoint saved as {self.writer.last}; go on with --resume auto")
        if terminated:
            raise SystemExit(0)
        raise KeyboardInterrupt

    def _stop_if_compiler_was_stopped(self) -> None:
        """Ctrl-C ends a C++ compiler at work too: its failure says nothing, and the step it was in cannot be saved."""
        if self._interruption.requested:
            self.reporter.close_bar()
            last = self._kept()
            way = f"go on from {last} with --resume auto" if last else "there is no checkpoint yet"
            self.reporter.line(f"interrupted while compiling: {way}")
            raise KeyboardInterrupt

    def _evaluate_if_due(self) -> None:
        """Evaluate after an epoch that asks for it and has not been evaluated yet."""
        counters, plan = self.state.counters, self.plan
        epoch, within = divmod(counters.step, plan.steps_per_epoch)
        if within or not epoch or self.validation is None or counters.evaluated_epoch >= epoch:
            return
        wanted = self.options.eval_freq > 0 and epoch % self.options.eval_freq == 0
        if wanted or epoch == plan.epochs:
            with self.watch.paused(), self.state.average.gathered():
                self._evaluate(self.validation, epoch)

    def _evaluate(self, validation: EventDataset, epoch: int) -> None:
        """Score the averaged weights and keep them if they are the best so far; each process does a share."""
        begin = time.perf_counter()
        found = self._detect(validation)
        self._agree_to_stop(found is None)
        parts = self.world.collect(found)
        self.world.by_first(lambda: self._judge(validation, epoch, parts or [], begin))
        self._share_counters()

    def _share_counters(self) -> None:
        """Give all processes the first one's counters, in place: the loop holds the same object."""
        vars(self.state.counters).update(self.world.from_first(asdict(self.state.counters)))

    def _detect(self, validation: EventDataset) -> dict[str, Detections] | None:
        """Detections of this process's share of the recordings; None where it was asked to stop meanwhile."""

        def on_progress(done: int, total: int) -> None:
            self.reporter.bar("evaluating", done, total)
            if self._interruption.requested:
                raise StopWaiting

        longest = max(validation.length(index) for index in range(len(validation)))
        self.gradients.work = ("evaluation", self.config.test_cfg.batch_size, longest)
        module = self.state.average.whole
        inference = Inference(module, self.decoder, self.config, self.labels, self.fabric.autocast)
        try:
            with self._left_when_asked():
                return detect_dataset(inference, validation, self.config.loader.num_workers, on_progress, self.share)
        except StopWaiting:
            return None

    def _agree_to_stop(self, stops: bool) -> None:
        """Stop all processes where one was asked to."""
        if any(self.world.everyone(stops)):
            flags = self.world.everyone(self._flags())
            self._asked = sum(flag[0] for flag in flags), sum(flag[1] for flag in flags)
            self._stop_if_asked()

    def _judge(
        self, validation: EventDataset, epoch: int, parts: list[dict[str, Detections] | None], begin: float
    ) -> None:
        """Score what all processes have found."""
        counters = self.state.counters
        detections = in_order(validation, {name: found for part in parts for name, found in (part or {}).items()})
        by_class = not validation.proposals or bool(self.config.test_cfg.ext_score_file)
        metrics = score(validation, detections, self.config, by_class=by_class)
        best = ", best so far" if self.keeper.is_best(metrics.average_mAP, counters) else ""
        head = f"evaluation after epoch {epoch} ({len(validation)} recordings, "
        head += f"{duration_text(time.perf_counter() - begin)}){best}"
        self.reports.evaluation(head, counters.step, epoch, metrics, validation, detections if by_class else None)
        self.keeper.evaluated(self.state.average.whole.state_dict(), metrics.average_mAP, epoch, counters)

    def _finish(self) -> None:
        """Write what a finished run has, and say where it is."""
        self.reporter.close_bar()
        counters, evaluates = self.state.counters, self.validation is not None
        with self.state.average.gathered():
            tensors = self.state.average.whole.state_dict()
            problems = self.world.by_first(lambda: self.keeper.finish(tensors, counters, evaluates=evaluates))
        self._share_counters()
        self._save()  # once more: the last evaluation belongs to it
        self.world.by_first(lambda: refuse_incomplete(problems or [], self.writer))
        if isinstance(self.gradients.detector, CompiledDetector):
            self.reporter.line(self.gradients.detector.summary())
        if counters.bad_total:
            self.reporter.line(f"{counters.bad_total} step(s) were skipped because they were not finite")
        best = ""
        if counters.best_metric is not None:
            best = f", average mAP {100 * counters.best_metric:.2f} after epoch {counters.best_epoch}"
        self.reporter.line(f"done: {self.folder.best}{best}")

    def close(self) -> None:
        """Close the log files."""
        self.metrics.close()
        self.curves.close()
