"""Training: the loop, readable from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from eventide.config import Config
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import training_batches
from eventide.engine import guard
from eventide.engine.checkpoint import checkpoint_path, save_checkpoint
from eventide.engine.compiling import CompiledDetector, compile_failure
from eventide.engine.evaluate import detect_dataset, named_values, score, table
from eventide.engine.inference import Inference, as_float32
from eventide.engine.interrupt import Interruption
from eventide.engine.logs import MetricsFile, TensorBoard
from eventide.engine.meters import Stopwatch, duration_text
from eventide.engine.model_file import StoredModel, save_model
from eventide.engine.optim import gradient_norm, scale_gradients, set_learning_rate
from eventide.engine.progress import Reporter
from eventide.engine.run_folder import RunFolder
from eventide.engine.schedule import Plan, learning_rate, teacher_share
from eventide.engine.state import TrainingState
from eventide.models.registry import DecodesOutputs
from eventide.types import Batch, EventideError, PyramidOutput


@dataclass(frozen=True)
class FitOptions:
    """What the command line says beside the configuration."""

    amp: bool = False
    resume: str | None = None  # path of a checkpoint or run, or `auto`
    eval_freq: int = 5  # epochs between evaluations; 0: at the end only
    checkpoint_epochs: int = 1  # epochs between checkpoints; 0: at the end only
    checkpoint_steps: int = 0  # optimiser steps between checkpoints; 0: off
    print_freq: int = 10  # optimiser steps between lines


@dataclass
class Trainer:
    """A training that is set up (`eventide.engine.setup`): `run` takes it from where its state is to the end."""

    config: Config
    options: FitOptions
    plan: Plan
    folder: RunFolder
    fabric: Fabric
    detector: Callable[[Tensor, Tensor | None], PyramidOutput]  # the one in training, in Fabric's wrapping
    state: TrainingState
    decoder: DecodesOutputs
    data: EventDataset
    batch_plan: BatchPlan
    validation: EventDataset | None
    labels: list[str]
    fps: float | None
    reporter: Reporter
    metrics: MetricsFile
    curves: TensorBoard

    def __post_init__(self) -> None:
        self.watch = Stopwatch()
        self.last_checkpoint: Path | None = None
        self._saved_at = time.monotonic()
        self._work = ("training", 0, 0)  # what is being computed: sequences, longest; for messages
        self._speed = ""  # losses and rate at the last report, for the bar
        self._interruption = Interruption()

    def run(self) -> None:
        """Train to the end, evaluate, keep the best and the last model.

        Raises:
            EventideError: too many steps were not finite, or memory ran out.
            KeyboardInterrupt: somebody asked to stop; a checkpoint was written.
        """
        counters = self.state.counters
        try:
            with self._interruption:
                self._evaluate_if_due()
                first = self.plan.first_batch(counters.step)
                workers = self.config.loader.num_workers
                batches = training_batches(self.data, self.batch_plan, num_workers=workers, first_step=first)
                with closing(batches):  # type: ignore[type-var]  # a generator
                    self._loop(batches)
                self._finish()
        except (RuntimeError, MemoryError) as error:
            if guard.is_out_of_memory(error):
                raise guard.out_of_memory(*self._work, self.last_checkpoint) from None
            if failure := compile_failure(error):
                self._stop_if_compiler_was_stopped()
                raise failure from None
            raise

    def _loop(self, batches: Iterator[Batch]) -> None:
        counters, plan = self.state.counters, self.plan
        self.state.detector.train()
        self.state.criterion.train()
        self.watch.start()
        while counters.step < plan.total_steps:
            norm = self._step(batches)
            self.watch.step()
            if counters.step % self.options.print_freq == 0 or counters.step == plan.total_steps:
                self._report(norm)
            self._show_bar()
            if self._checkpoint_due():
                self._save()
            self._stop_if_asked()
            if counters.step % plan.steps_per_epoch == 0:
                self._evaluate_if_due()

    def _step(self, batches: Iterator[Batch]) -> float:
        """One optimiser step: its micro-batches, the guard, the update. Returns the gradient norm before clipping."""
        state, counters, config = self.state, self.state.counters, self.config
        size, first = self.plan.group_size(counters.step), self.plan.first_batch(counters.step)
        rate = learning_rate(counters.step, self.plan, config.opt)
        parts: list[Tensor] = []
        ids: list[str] = []
        for number in range(first, first + size):
            batch = self._next(batches, nothing_done=number == first)
            self._work = ("training", len(batch.ids), batch.features.shape[-1])
            ids += batch.ids
            names, values = self._forward_backward(batch.to(self.fabric.device), number, size)
            parts.append(values)
        if state.scaler is not None:
            state.scaler.unscale_(state.optimizer)
        total = torch.stack(parts).sum(0)
        norm, finite = self._read_norm(total)
        if finite:
            limit = config.train_cfg.clip_grad_l2norm
            if 0 < limit < norm:
                scale_gradients(state.optimizer, limit / (norm + 1e-6))
            set_learning_rate(state.optimizer, rate)
            state.optimizer.step()
            state.average.update()
            state.losses.add(names, total)
        if state.scaler is not None:
            state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        counters.step += 1
        self._count(finite, ids)
        return norm

    def _next(self, batches: Iterator[Batch], nothing_done: bool) -> Batch:
        """The next micro-batch; `nothing_done` says that it is the first of its step."""
        try:
            with self.watch.waiting():
                return next(batches)
        except EventideError:
            # SIGTERM to the whole process group ends loader processes before this one has finished its step
            if nothing_done:
                self._stop_if_asked()
            raise

    def _forward_backward(self, batch: Batch, number: int, size: int) -> tuple[list[str], Tensor]:
        """Loss parts of micro-batch `number` of the run, divided by the `size` of its group; gradients are added up."""
        # Dropout and drop path depend on the number alone, so a resumed run needs no random state.
        torch.manual_seed((self.config.seed * 1_000_003 + number) % 2**63)
        mask = batch.mask if min(batch.lengths) < batch.features.shape[-1] else None
        teacher = self._teacher(batch.features, mask)
        output = as_float32(self.detector(batch.features, mask))
        losses = self.state.criterion(output, batch.segments, batch.label_ids, *teacher)
        self.fabric.backward(losses["final_loss"] / size)
        return list(losses), torch.stack([part.detach().float() for part in losses.values()]) / size

    def _teacher(self, features: Tensor, mask: Tensor | None) -> tuple[PyramidOutput, float] | tuple[()]:
        """The averaged model's output and its share in the targets of this step, where it has one."""
        share = teacher_share(self.state.counters.step, self.plan, self.config.train_cfg.teacher_share or 0.0)
        if share == 0:
            return ()
        with torch.no_grad(), self.fabric.autocast():
            return as_float32(self.state.average.module(features, mask)), share

    def _read_norm(self, losses: Tensor) -> tuple[float, bool]:
        """The gradient norm, and whether it and the losses are finite: the one wait for the device in a step."""
        norm = gradient_norm(self.state.optimizer)
        value = float(norm + 0.0 * losses.sum())  # NaN where a loss is not finite
        return value, math.isfinite(value)

    def _count(self, finite: bool, ids: list[str]) -> None:
        """Count good and skipped steps; stop after too many skipped ones in a row."""
        counters = self.state.counters
        if finite:
            counters.bad_in_a_row = 0
            return
        counters.bad_in_a_row += 1
        counters.bad_total += 1
        if counters.bad_in_a_row >= self.config.train_cfg.max_bad_steps:
            raise guard.not_finite(counters.bad_in_a_row, ids, self.last_checkpoint)
        self.reporter.line(
            f"warning: step {counters.step}: loss or gradient is not finite, step skipped "
            f"({counters.bad_in_a_row} in a row); recordings: {', '.join(ids)}"
        )

    def _report(self, norm: float) -> None:
        """Print and log the steps since the last report."""
        counters, plan = self.state.counters, self.plan
        means = self.state.losses.read()
        rate, waiting = self.watch.read()
        epoch = (counters.step - 1) // plan.steps_per_epoch + 1
        lr = learning_rate(counters.step - 1, plan, self.config.opt)
        left = duration_text((plan.total_steps - counters.step) / rate)
        parts = ", ".join(
            f"{name.removesuffix('_loss')} {value:.4f}" for name, value in means.items() if "loss" in name
        )
        final = f"{means['final_loss']:.4f}" if means else "not finite"
        self._speed = f"loss {final}, {rate:.2f} steps/s, {left} left"
        self.reporter.step_line(
            f"epoch {epoch}/{plan.epochs}, step {counters.step}/{plan.total_steps}, loss {parts or 'not finite'}, "
            f"lr {lr:.3g}, {rate:.2f} steps/s, {left} left, {waiting:.0%} waiting for data"
        )
        values = {**means, "learning_rate": lr, "gradient_norm": norm if math.isfinite(norm) else -1.0}
        values["padding_share"] = self.batch_plan.padding_share(epoch - 1)
        speed = {"steps_per_second": rate, "waiting_share": waiting}
        entry: dict[str, Any] = {
            "kind": "train",
            "step": counters.step,
            "epoch": epoch,
            "bad_steps": counters.bad_total,
        }
        self.metrics.write({**entry, **values, **speed})
        self.curves.write({f"train/{name}": value for name, value in {**values, **speed}.items()}, counters.step)

    def _show_bar(self) -> None:
        counters, plan = self.state.counters, self.plan
        epoch = (counters.step - 1) // plan.steps_per_epoch + 1
        self.reporter.bar(f"epoch {epoch}/{plan.epochs}", counters.step, plan.total_steps, self._speed)

    def _checkpoint_due(self) -> bool:
        step, options, plan = self.state.counters.step, self.options, self.plan
        if step == plan.total_steps:
            return True
        if step % plan.steps_per_epoch == 0 and options.checkpoint_epochs:
            return (step // plan.steps_per_epoch) % options.checkpoint_epochs == 0
        minutes = self.config.train_cfg.checkpoint_minutes
        if minutes and time.monotonic() - self._saved_at > 60 * minutes:
            return True
        return options.checkpoint_steps > 0 and step % options.checkpoint_steps == 0

    def _save(self) -> Path:
        """Write a checkpoint of the present state."""
        path = checkpoint_path(self.folder.checkpoints, self.state.counters.step)
        with self.watch.paused():
            content = {
                "config": self.config.model_dump(mode="json"),
                "labels": self.labels,
                "fps": self.fps,
                "amp": self.options.amp,
                "plan": asdict(self.plan),
                **self.state.state_dict(),
            }
            save_checkpoint(path, content, self.config.train_cfg.keep_checkpoints)
        self.last_checkpoint, self._saved_at = path, time.monotonic()
        return path

    def _stop_if_asked(self) -> None:
        if self._interruption.requested:
            self.reporter.close_bar()
            path = checkpoint_path(self.folder.checkpoints, self.state.counters.step)
            if path != self.last_checkpoint:
                self._save()
            self.reporter.line(f"interrupted: checkpoint saved as {path}; go on with --resume auto")
            raise KeyboardInterrupt

    def _stop_if_compiler_was_stopped(self) -> None:
        """Ctrl-C ends a C++ compiler at work too: its failure says nothing, and the step it was in cannot be saved."""
        if self._interruption.requested:
            self.reporter.close_bar()
            last = self.last_checkpoint
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
            with self.watch.paused():
                self._evaluate(self.validation, epoch)

    def _evaluate(self, validation: EventDataset, epoch: int) -> None:
        """Score the averaged weights and keep them if they are the best so far."""
        counters = self.state.counters

        def on_progress(done: int, total: int) -> None:
            self.reporter.bar("evaluating", done, total)
            self._stop_if_asked()

        longest = max(validation.length(index) for index in range(len(validation)))
        self._work = ("evaluation", self.config.test_cfg.batch_size, longest)
        begin = time.perf_counter()
        module = self.state.average.module
        inference = Inference(module, self.decoder, self.config, self.labels, self.fabric.autocast)
        detections = detect_dataset(inference, validation, self.config.loader.num_workers, on_progress)
        by_class = not validation.proposals or bool(self.config.test_cfg.ext_score_file)
        metrics = score(validation, detections, self.config, by_class=by_class)
        counters.evaluated_epoch = epoch
        better = counters.best_metric is None or metrics.average_mAP >= counters.best_metric  # of equals the later
        if better:
            counters.best_metric, counters.best_epoch = metrics.average_mAP, epoch
            self._save_model(self.folder.best, metrics.average_mAP)
        seconds = duration_text(time.perf_counter() - begin)
        head = f"evaluation after epoch {epoch} ({len(validation)} recordings, {seconds})"
        for line in [head + (", best so far" if better else ""), *table(metrics)]:
            self.reporter.line(line)
        values = named_values(metrics)
        self.metrics.write({"kind": "evaluation", "step": counters.step, "epoch": epoch, **values})
        self.curves.write({f"validation/{name}": value for name, value in values.items()}, counters.step)

    def _save_model(self, path: Path, metric: float | None) -> None:
        """Write the averaged weights as a model file."""
        tensors = self.state.average.module.state_dict()
        extra = {"step": self.state.counters.step, "average_mAP": metric}
        save_model(path, StoredModel(self.config, self.labels, self.fps, tensors), extra)

    def _finish(self) -> None:
        """Write what a finished run has, and say where it is."""
        self.reporter.close_bar()
        counters = self.state.counters
        self._save_model(self.folder.last, None)
        if self.validation is None:
            self._save_model(self.folder.best, None)
        self._save()
        if isinstance(self.detector, CompiledDetector):
            self.reporter.line(self.detector.summary())
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
