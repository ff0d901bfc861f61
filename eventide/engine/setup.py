"""From a configuration to a training that is ready to run: data, model, optimiser, folder, and where to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eventide.config import Config
from eventide.config_loading import config_to_yaml
from eventide.data.annotations import load_annotations
from eventide.data.batching import BatchPlan
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.data.steps import Share
from eventide.engine import guard
from eventide.engine.compiling import CompiledDetector, refuse_without_compiler
from eventide.engine.devices import PrecisionName, choose_precision, make_fabric, own_device
from eventide.engine.ema import WeightAverage
from eventide.engine.fit import FitOptions, Trainer
from eventide.engine.gradients import StepGradients
from eventide.engine.logs import MetricsFile, NoLog, TensorBoard
from eventide.engine.memory import keep_freed_memory
from eventide.engine.optim import build_optimizer, parameters_of
from eventide.engine.planning import plan_run, step_lines
from eventide.engine.processes import Launch
from eventide.engine.progress import Reporter
from eventide.engine.reduction import GradientSum, NoReduction, Reduction
from eventide.engine.resuming import (
    check_same_run,
    find_checkpoint,
    refuse_other_folder,
    resume_of_restart,
    set_aside_other_course,
    take_over_best,
)
from eventide.engine.run_folder import RunFolder
from eventide.engine.schedule import Plan
from eventide.engine.sharded_state import state_in_parts
from eventide.engine.sharding import group_of_one, is_sharded, refuse_sharding
from eventide.engine.state import Counters, TrainingState
from eventide.engine.weights import describe_model
from eventide.engine.world import World, is_lost_connection
from eventide.models import Architecture, build
from eventide.ops.files import write_text
from eventide.ops.problems import raise_problems
from eventide.types import EventideError, Recording

# Settings that may differ between machines: where things are.
LOCAL = ("dataset.json_file", "dataset.feat_folder", "output_folder", "loader.num_workers")


def train(config: Config, folder: RunFolder, options: FitOptions, world: World | None = None) -> Trainer:
    """Set a training up, run it to the end and give it back. Of several processes (`world`) the first alone writes."""
    world = world or World()
    keep_freed_memory()
    world.same("settings", settings_of(config, options))
    resume = world.from_first(resume_of_restart(folder, options.resume, world.has_begun()))
    options = replace(options, resume=resume)
    world.by_first(lambda: folder.open(resume))
    with ExitStack() as stack:
        world.by_first(lambda: stack.enter_context(folder.locked()))
        log = folder.log if world.is_first else None
        reporter = stack.enter_context(closing(Reporter(log, silent=not world.is_first)))
        stack.enter_context(group_of_one(world, wanted=is_sharded(config)))
        try:
            trainer = set_up(config, folder, options, reporter, world)
            with closing(trainer):
                trainer.run()
        except EventideError as error:
            reporter.note(f"error: {error}")
            raise
        except RuntimeError as error:  # before the training itself, which explains its own
            if is_lost_connection(error):
                lost = guard.lost_connection(error, folder.newest())
                reporter.note(f"error: {lost}")
                raise lost from None
            raise
    return trainer


def set_up(
    config: Config, folder: RunFolder, options: FitOptions, reporter: Reporter, world: World | None = None
) -> Trainer:
    """Everything a training needs, at its first step or where the checkpoint it resumes from has left it.

    Raises:
        EventideError: the data has problems, or the checkpoint is of another run.
    """
    world = world or World()
    found, device, precision, data, validation, warnings, batch_plan, plan = _prepare(
        config, folder, options, reporter, world
    )
    in_parts = is_sharded(config)
    fabric, scaler = make_fabric(device, precision, world.launch, in_parts)
    torch.manual_seed(config.seed)
    model = build(config)
    model.set_longest_event(data.longest_event())
    detector = fabric.setup_module(model.detector, move_to_device=not in_parts)  # parts move there one by one
    model.criterion.to(device)
    make_state = state_in_parts if in_parts else _whole_state
    state, reduction = make_state(config, world, model, device, scaler)
    if found is not None:
        _restore(state, folder, world, *found)
    world.by_first(lambda: write_text(folder.config, config_to_yaml(config)))
    epoch = min(state.counters.step // plan.steps_per_epoch, plan.epochs - 1)
    summary = _summary(config, model.detector, data, validation, plan, device)
    for line in (summary, _padding(config, batch_plan, epoch), *step_lines(config, plan, world.size)):
        reporter.line(line)
    if found is not None:
        print_warnings(reporter, warnings)
        reporter.line(f"going on from {found[0]}, step {state.counters.step} of {plan.total_steps}")
    compiled = _compiled(detector, model, config, batch_plan, world.size, reporter.line)
    gradients = StepGradients(config, fabric, world, compiled, state, reduction, announcer(reporter, world))
    metrics, curves = world.by_first(lambda: _logs(folder, state, reporter)) or (NoLog(), NoLog())
    trainer = Trainer(
        config,
        options,
        plan,
        folder,
        fabric,
        world,
        share=Share(world.rank, world.size, equal=in_parts),
        gradients=gradients,
        state=state,
        decoder=model.decoder,
        data=data,
        batch_plan=batch_plan,
        validation=validation,
        labels=data.labels,
        fps=common_rate(config, data.recordings),
        reporter=reporter,
        metrics=metrics,
        curves=curves,
    )
    trainer.writer.last = None if found is None else found[0]
    return trainer


class Prepared(NamedTuple):
    """What is known before there is a model."""

    found: tuple[Path, dict[str, Any]] | None  # the checkpoint to go on from
    device: torch.device
    precision: PrecisionName
    data: EventDataset
    validation: EventDataset
    warnings: list[str]
    batch_plan: BatchPlan
    plan: Plan


def _prepare(config: Config, folder: RunFolder, options: FitOptions, reporter: Reporter, world: World) -> Prepared:
    """Find the checkpoint, the device and the data, and see to it that they fit."""
    found = world.from_first(world.by_first(lambda: find_checkpoint(folder, options.resume, reporter.line)))
    device = world.together(lambda: _training_device(config, world.launch))
    precision, sentence = choose_precision(device, options.amp)
    world.same("devices", {"device": device.type, "precision": precision})
    if sentence:
        reporter.line(sentence)
    if found is None:  # the data of a run that goes on was checked when it began
        world.by_first(lambda: check_data(config, reporter))
    data, validation, warnings = world.together(lambda: _load_data(config))
    batch_plan, plan = world.together(lambda: plan_run(config, data, options.scale_rate, world.size, found))
    if found is not None:
        world.by_first(lambda: refuse_other_folder(folder, config, found[0]))
        world.together(lambda: check_same_run(found[1], found[0], config, plan, data.labels, options.amp))
    world.same("data", {"recordings": len(data), "labels": data.labels, "lengths": _digest(data, validation)})
    if found is not None and options.resume != "auto":
        best = found[1]["counters"].get("best_metric")
        world.by_first(lambda: set_aside_other_course(folder, found[0], best, reporter.line))
    world.begin()  # from here on, `--resume auto` goes on with this run and no other
    return Prepared(found, device, precision, data, validation, warnings, batch_plan, plan)


def _logs(folder: RunFolder, state: TrainingState, reporter: Reporter) -> tuple[MetricsFile, TensorBoard]:
    """The numbers of the training for programs, from where it is on."""
    metrics = MetricsFile(folder.metrics, _keeps(state), reporter.line)
    return metrics, TensorBoard(folder.tensorboard, state.counters.step, reporter.line)


def _restore(state: TrainingState, folder: RunFolder, world: World, path: Path, content: Mapping[str, Any]) -> None:
    """Let a training be where the checkpoint `content`, read from `path`, has left it, with its best model."""
    state.load_state_dict(content)
    world.by_first(lambda: take_over_best(folder, state.counters, path))
    state.counters = Counters(**world.from_first(asdict(state.counters)))


def _whole_state(
    config: Config, world: World, model: Architecture, device: torch.device, scaler: torch.amp.GradScaler | None
) -> tuple[TrainingState, Reduction]:
    """The state of a training at its beginning, every process with the whole model, and how gradients are summed."""
    average = WeightAverage(model.detector, config.train_cfg.ema_decay, config.train_cfg.ema_ramp)
    optimizer = build_optimizer(config.opt, model.detector, model.criterion)
    reduction = GradientSum(parameters_of(optimizer)) if world.size > 1 else NoReduction()
    return TrainingState(model.detector, model.criterion, average, optimizer, scaler), reduction


def settings_of(config: Config, options: FitOptions) -> dict[str, Any]:
    """All settings that must be the same in all processes, flat."""
    flat: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{prefix}.{key}" if prefix else key, item)
        elif not f"{prefix}.".startswith(tuple(f"{key}." for key in LOCAL)):
            flat[prefix] = value

    add("", config.model_dump(mode="json"))
    return {**flat, **asdict(options)}


def announcer(reporter: Reporter, world: World) -> Callable[[str], None]:
    """How a process says what concerns it alone."""
    return reporter.line if world.is_first else lambda text: print(f"process {world.rank}: {text}", flush=True)


def _load_data(config: Config) -> tuple[EventDataset, EventDataset, list[str]]:
    """Training and validation data, and what is odd about them."""
    annotations = load_annotations(config.dataset.json_file)
    data = EventDataset(config, config.train_split, training=True, annotations=annotations)
    validation = EventDataset(config, config.val_split, training=False, annotations=annotations)
    return data, validation, [*annotations.warnings, *data.warnings, *validation.warnings]


def _digest(*datasets: EventDataset) -> str:
    """The same for the same recordings with the same lengths in the same order."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for index, recording in enumerate(dataset.recordings):
            digest.update(f"{recording.id} {dataset.length(index)} {len(recording.label_ids)}\n".encode())
    return digest.hexdigest()[:16]


def check_data(config: Config, reporter: Reporter) -> None:
    """Look at all annotations and features; print what is odd, one line each.

    Raises:
        EventideError: something must be mended before training; names every problem.
    """
    report = check_dataset(config, progress=lambda done, total: reporter.bar("checking the data", done, total))
    reporter.close_bar()
    print_warnings(reporter, report.warnings)
    raise_problems("the data is not fit for training", report.problems)


def print_warnings(reporter: Reporter, warnings: Sequence[str]) -> None:
    """Each once, one line each."""
    for warning in dict.fromkeys(warnings):
        reporter.line(f"warning: {warning}")


def common_rate(config: Config, recordings: list[Recording]) -> float | None:
    """The frame rate that all recordings share; None where they differ."""
    if config.dataset.default_fps is not None:
        return config.dataset.default_fps
    rates = {recording.fps for recording in recordings}
    return rates.pop() if len(rates) == 1 else None


def _keeps(state: TrainingState) -> Callable[[Mapping[str, Any]], bool]:
    """Which log entries led to this state."""
    counters = state.counters

    def keep(entry: Mapping[str, Any]) -> bool:
        evaluation_to_come = entry.get("kind") == "evaluation" and entry.get("epoch", 0) > counters.evaluated_epoch
        return 0 < entry.get("step", 0) <= counters.step and not evaluation_to_come

    return keep


def _summary(
    config: Config,
    detector: torch.nn.Module,
    data: EventDataset,
    validation: EventDataset,
    plan: Plan,
    device: torch.device,
) -> str:
    """What is trained on what, in one line."""
    size = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
    return (
        f"{describe_model(config)}, {size:.2f} M parameters, on {device}; {len(data)} training and {len(validation)} "
        f"validation recordings, {len(data.labels)} classes; {plan.epochs} epochs of {plan.steps_per_epoch} steps"
    )


def _padding(config: Config, batch_plan: BatchPlan, epoch: int) -> str:
    """How much of the training batches is padding, in one line."""
    lengths = f", {len(batch_plan.lengths)} length(s)" if batch_plan.lengths else ""
    share = f"{batch_plan.padding_share(epoch):.1%} of the vectors in epoch {epoch + 1}"
    return f"padding: {share} (loader.batching: {config.loader.batching}{lengths})"


def _training_device(config: Config, launch: Launch) -> torch.device:
    device = own_device(config.device, launch)
    if config.train_cfg.compile:
        refuse_without_compiler(device)
    if is_sharded(config):
        refuse_sharding(device)
    return device


def _compiled(
    detector: torch.nn.Module,
    model: Architecture,
    config: Config,
    plan: BatchPlan,
    processes: int,
    say: Callable[[str], object],
) -> CompiledDetector | torch.nn.Module:
    """`detector`, which wraps the model's, through the compiler where the configuration asks for it."""
    if not config.train_cfg.compile:
        return detector
    largest = min(config.loader.batch_size, plan.count)
    if plan.batches_per_step < processes:  # a step's recordings are dealt out
        largest = -(-min(largest * plan.batches_per_step, plan.count) // processes)
    passes = 2 if model.criterion.balances else 1  # balanced losses take one without gradients, a graph of its own
    return CompiledDetector(detector, model.detector, largest, passes * len(plan.lengths), say)
