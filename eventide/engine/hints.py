"""What a training says of itself where something looks wrong: data that comes too slowly, a loss that does not fall.

Each hint is said once, and only where it is clear. The numbers it is made of are in metrics.jsonl and TensorBoard.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from eventide.config import Config
from eventide.data.dataset import EventDataset
from eventide.engine.meters import EpochSums, Window
from eventide.engine.schedule import Plan
from eventide.ops.problems import name_some
from eventide.types import Detections, Recording

Say = Callable[[str], object]

# Data: the first steps fill the loader's queues, and a share measured over less than this says little.
FIRST_STEPS = 20
WINDOW_STEPS = 50
WINDOW_SECONDS = 30.0
WAITING_SHARE = 0.3  # of the time: above, it is said
WAITING_CHANGE = 0.25  # said again where the share has grown by this

# Gradients: the published recipe clips most steps of a healthy run, to about a third; this is far beyond.
HARD = 10.0  # times the limit
HARD_SHARE = 0.9  # of the steps
HARD_STEPS = 100  # good steps that are looked at

# Loss: that of the first epochs is of a normaliser and a learning rate still on their way.
SETTLED_STEPS = 100
PATIENCE = 5  # epochs
FALL = 0.97  # what the loss must have fallen to by then
RISE = 1.5  # an epoch's loss over the best one's

# Classes
NEVER_EPOCHS = 3  # epochs without a learnt position: random windows may miss a rare class in one
SILENT_SCORE = 0.05  # the highest score of a class that is as good as never found
SURE_SCORE = 0.5  # what another class must reach: before, the model is simply not trained yet


class DataHint:
    """Notices that steps wait for data."""

    def __init__(self, workers: int, processes: int, say: Say, cores: int | None = None) -> None:
        """`processes` of this machine have `workers` loader processes each; `cores` are counted where not given."""
        self.workers, self.processes, self.say = workers, processes, say
        self.cores = cores or _cores()
        self._skipped, self._said = 0, 0.0
        self._window = Window(0, 0.0, 0.0)

    def add(self, steps: Window) -> None:
        """Take the steps since the last call into account."""
        if self._skipped < FIRST_STEPS:
            self._skipped += steps.steps
            return
        before = self._window
        self._window = Window(before.steps + steps.steps, before.seconds + steps.seconds, before.waited + steps.waited)
        if self._window.steps < WINDOW_STEPS or self._window.seconds < WINDOW_SECONDS:
            return
        share = self._window.share
        if share >= WAITING_SHARE and share >= self._said + WAITING_CHANGE:
            self._said = share
            self.say(self._text(self._window))
        self._window = Window(0, 0.0, 0.0)

    def _text(self, window: Window) -> str:
        wanted = "raise loader.num_workers" if self.workers else "set loader.num_workers to 2 or more"
        if self.workers * self.processes >= self.cores:
            wanted = "more CPU cores, since loader.num_workers has used them up"
        return (
            f"warning: slow training: steps waited for data {window.share:.0%} of the time (the last {window.steps} "
            f"steps, {window.seconds:.0f} s). Check data loading: {wanted} (now {self.workers} for each of "
            f"{self.processes} process(es), {self.cores} cores), put the features on a local SSD, make shards of many "
            "small or remote files (eventide shard), store them as float16 or with fewer channels"
        )


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ConvergenceHints:
    """Notices that a training gets nowhere, from what each epoch and each evaluation was like."""

    def __init__(self, config: Config, plan: Plan, classes: Sequence[tuple[str, int]], say: Say) -> None:
        """`classes` are name and number of training events of each class, by label id."""
        self.config, self.plan, self.classes, self.say = config, plan, list(classes), say
        self._epoch = 0
        self._steps = 0  # good ones, seen here
        self._losses: list[tuple[int, float]] = []  # epoch and mean, of epochs that count
        self._ever = [0] * len(self.classes)
        self._hard: list[tuple[int, int]] = []  # good steps and hard ones, of the latest epochs
        self._said: set[str] = set()

    def epoch(self, number: int, sums: EpochSums) -> None:
        """Look at epoch `number`, counted from 1, which is over."""
        self._epoch += 1
        self._look_at_classes(sums)
        if number > self.plan.warmup_epochs:
            self._look_at_gradients(sums)
        if sums.steps:
            if self._steps >= SETTLED_STEPS:
                self._losses.append((number, sums.loss))
                self._look_at_loss()
            self._steps += sums.steps

    def evaluation(self, highest: Mapping[int, float]) -> None:
        """Look at the highest score of each class (label id) that the evaluated recordings have events of."""
        if not highest or max(highest.values()) < SURE_SCORE:
            return
        new = [label for label in silent_classes(highest) if f"silent {label}" not in self._said]
        self._said.update(f"silent {label}" for label in new)
        if new:
            known = [self._named(label) for label in new]
            self.say(
                f"warning: poor convergence: no detection of class(es) {name_some(known)} scores {SILENT_SCORE} or "
                f"more, while others reach {max(highest.values()):.2f}; look at their examples (eventide check), add "
                "more of them, or join classes that look alike"
            )

    def _look_at_classes(self, sums: EpochSums) -> None:
        if len(sums.learnt) != len(self._ever):  # no good step
            return
        self._ever = [before + now for before, now in zip(self._ever, sums.learnt, strict=True)]
        if self._epoch < NEVER_EPOCHS:
            return
        never = [
            self._named(label)
            for label, ((_, events), learnt) in enumerate(zip(self.classes, self._ever, strict=True))
            if events and not learnt
        ]
        if never:
            self._once(
                "never",
                f"warning: poor convergence: in {self._epoch} epochs no position has learnt class(es) "
                f"{name_some(never)}: their events fall on no position of the model. Check their times against the "
                "features (eventide check), dataset.feat_stride, and the ranges of duration that the levels of the "
                "pyramid are for (model.regression_range)",
            )

    def _look_at_gradients(self, sums: EpochSums) -> None:
        self._hard.append((sums.steps, sums.hard_steps))
        while sum(steps for steps, _ in self._hard[1:]) >= HARD_STEPS:
            self._hard.pop(0)
        steps, hard = (sum(column) for column in zip(*self._hard, strict=True))
        if steps >= HARD_STEPS and hard >= HARD_SHARE * steps:
            self._once(
                "hard",
                f"warning: poor convergence: {hard} of the last {steps} steps had gradients over {HARD:g} times "
                f"train_cfg.clip_grad_l2norm ({self.config.train_cfg.clip_grad_l2norm:g}). Check learning rate scaling "
                f"({self._rate()}) and the scale of the features (eventide check)",
            )

    def _look_at_loss(self) -> None:
        (first, begin), *later = self._losses
        if len(later) < PATIENCE:
            return
        best = min(loss for _, loss in later)
        number, last = later[-1]
        if best > FALL * begin:
            self._once(
                "loss",
                f"warning: poor convergence: the loss has not fallen in {len(later)} epochs ({begin:.4g} in epoch "
                f"{first}, at best {best:.4g} since). {self._remedy()}",
            )
        elif last > RISE * best:
            self._once(
                "loss",
                f"warning: poor convergence: the loss rises: {last:.4g} in epoch {number}, {best:.4g} before. "
                f"{self._remedy()}",
            )

    def _named(self, label: int) -> str:
        name, events = self.classes[label]
        return f"{name} ({events} events in training)"

    def _remedy(self) -> str:
        swiglu = self.config.model.backbone.use_swiglu
        way = ", try without SwiGLU (model.backbone.use_swiglu: false)" if swiglu else ""
        return f"Check learning rate scaling ({self._rate()}){way}"

    def _rate(self) -> str:
        rate, scale = self.config.opt.learning_rate, self.plan.rate_scale
        if scale == 1:
            return f"opt.learning_rate is {rate:g}, for steps of {self.plan.batches_per_step} batch(es)"
        return f"opt.learning_rate is {rate:g}, times {scale:g} for the batches of a step; --no-lr-scaling leaves that"

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.say(text)


def highest_scores(detections: Iterable[Detections], recordings: Iterable[Recording]) -> dict[int, float]:
    """The highest score of each class (label id) that the recordings have events of; 0 where nothing was found."""
    highest = {int(label): 0.0 for recording in recordings for label in np.unique(recording.label_ids)}
    for found in detections:
        for label in np.unique(found.label_ids):
            if int(label) in highest:
                score = float(found.scores[found.label_ids == label].max())
                highest[int(label)] = max(highest[int(label)], score)
    return highest


def silent_classes(highest: Mapping[int, float]) -> list[int]:
    """The classes without a detection that scores `SILENT_SCORE` or more."""
    return [label for label, score in sorted(highest.items()) if score < SILENT_SCORE]


def hints_of(
    config: Config, plan: Plan, data: EventDataset, processes: int, say: Say
) -> tuple[DataHint, ConvergenceHints]:
    """The hints of a training on `data`, by `processes` of this machine."""
    classes = config.dataset.num_classes
    labels = data.labels if len(data.labels) == classes else [str(index) for index in range(classes)]
    events = [0] * classes
    for recording in data.recordings:
        for label in recording.label_ids:
            events[0 if data.proposals else int(label)] += 1
    hint = DataHint(config.loader.num_workers, processes, say)
    return hint, ConvergenceHints(config, plan, list(zip(labels, events, strict=True)), say)
