"""From a configuration to a training that is ready to run: data, model, optimiser, folder, and where to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from eventide.config import Config
from eventide.config_loading import config_to_yaml, load_config_with_origins
from eventide.data.annotations import load_annotations
from eventide.data.batching import BatchPlan
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.engine.checkpoint import load_checkpoint, newest_readable
from eventide.engine.compiling import DEFAULT_LENGTHS, CompiledDetector, refuse_without_compiler
from eventide.engine.devices import choose_precision, make_fabric, pick_device, refuse_launchers
from eventide.engine.ema import WeightAverage
from eventide.engine.fit import FitOptions, Trainer
from eventide.engine.logs import MetricsFile, TensorBoard
from eventide.engine.memory import keep_freed_memory
from eventide.engine.model_file import stored_config, stored_score
from eventide.engine.optim import build_optimizer
from eventide.engine.progress import Reporter
from eventide.engine.run_folder import RunFolder
from eventide.engine.schedule import Plan
from eventide.engine.state import Counters, TrainingState
from eventide.engine.weights import config_differences, describe_model, shorten, tensor_differences
from eventide.models import build
from eventide.ops.files import write_file, write_text
from eventide.ops.problems import raise_problems
from eventide.types import EventideError, Recording, UsageError

# Keys that may differ when a run goes on: they say where things are and how they are done, not what comes out.
HARMLESS = (
    "dataset_name",
    "device",
    "output_folder",
    "dataset.json_file",
    "dataset.feat_folder",
    "loader.num_workers",
    "loader.num_lengths",
    "train_cfg.compile",
    "train_cfg.checkpoint_minutes",
    "train_cfg.keep_checkpoints",
    "train_cfg.max_bad_steps",
    "test_cfg.batch_size",
)
Content = Mapping[str, Any]


def train(config: Config, folder: RunFolder, options: FitOptions) -> Trainer:
    """Set a training up, run it to the end and give it back."""
    refuse_launchers()
    keep_freed_memory()
    folder.open(options.resume)
    with folder.locked(), closing(Reporter(folder.log)) as reporter:
        try:
            trainer = set_up(config, folder, options, reporter)
            with closing(trainer):
                trainer.run()
        except EventideError as error:
            reporter.note(f"error: {error}")
            raise
    return trainer


def set_up(config: Config, folder: RunFolder, options: FitOptions, reporter: Reporter) -> Trainer:
    """Everything a training needs, at its first step or where the checkpoint it resumes from has left it.

    Raises:
        EventideError: the data has problems, or the checkpoint is of another run.
    """
    found = find_checkpoint(folder, options.resume, reporter.line)
    device = _training_device(config)
    precision, sentence = choose_precision(device, options.amp)
    if sentence:
        reporter.line(sentence)
    if found is None:  # the data of a run that goes on was checked when it began
        check_data(config, reporter)
    annotations = load_annotations(config.dataset.json_file)
    data = EventDataset(config, config.train_split, training=True, annotations=annotations)
    validation = EventDataset(config, config.val_split, training=False, annotations=annotations)
    batch_plan = BatchPlan.of(data, config.loader, DEFAULT_LENGTHS if config.train_cfg.compile else None)
    plan = Plan.of(config, batch_plan.batches_per_epoch)
    if found is not None:
        refuse_other_folder(folder, config, found[0])
        check_same_run(found[1], found[0], config, plan, data.labels, options.amp)

    fabric, scaler = make_fabric(device, precision)
    torch.manual_seed(config.seed)
    model = build(config)
    model.set_longest_event(data.longest_event())
    detector = fabric.setup_module(model.detector)
    criterion = model.criterion.to(device)
    average = WeightAverage(model.detector, config.train_cfg.ema_decay, config.train_cfg.ema_ramp)
    optimizer = build_optimizer(config.opt, model.detector, criterion)
    state = TrainingState(model.detector, criterion, average, optimizer, scaler)
    if found is not None:
        state.load_state_dict(found[1])
        take_over_best(folder, state.counters, found[0])
    write_text(folder.config, config_to_yaml(config))
    reporter.line(_summary(config, model.detector, data, validation, plan, device))
    reporter.line(_padding(config, batch_plan, min(state.counters.step // plan.steps_per_epoch, plan.epochs - 1)))
    if found is not None:
        print_warnings(reporter, [*annotations.warnings, *data.warnings, *validation.warnings])
        reporter.line(f"going on from {found[0]}, step {state.counters.step} of {plan.total_steps}")
    trainer = Trainer(
        config=config,
        options=options,
        plan=plan,
        folder=folder,
        fabric=fabric,
        detector=_compiled(detector, model.detector, config, batch_plan),
        state=state,
        decoder=model.decoder,
        data=data,
        batch_plan=batch_plan,
        validation=validation,
        labels=data.labels,
        fps=common_rate(config, data.recordings),
        reporter=reporter,
        metrics=MetricsFile(folder.metrics, _keeps(state)),
        curves=TensorBoard(folder.tensorboard, state.counters.step),
    )
    trainer.last_checkpoint = None if found is None else found[0]
    return trainer


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


def find_checkpoint(
    folder: RunFolder, resume: str | None, say: Callable[[str], object]
) -> tuple[Path, dict[str, Any]] | None:
    """What `--resume` names: a checkpoint file, the newest readable one of a run, or with `auto` that of this run.

    None where nothing is asked for, or where `auto` finds no checkpoint yet.
    """
    if resume is None:
        return None
    if resume == "auto":
        found = newest_readable(folder.checkpoints, say)
        if found is None:
            say("no checkpoint to resume from yet: starting from the beginning")
        return found
    path = Path(resume)
    if path.suffix == ".safetensors":
        raise UsageError(
            f"--resume {path}: a model file has no state to train on from; give checkpoints/step_*.pt, a run's folder "
            "or auto"
        )
    if path.is_dir():
        inner = path / "checkpoints"
        found = newest_readable(inner if inner.is_dir() else path, say)
        if found is None:
            raise EventideError(f"--resume {path}: there is no checkpoint in this folder")
        return found
    if not path.exists():
        raise UsageError(f"--resume {path}: there is no such file; give a checkpoint, a run's folder or auto")
    return path, load_checkpoint(path)


def check_same_run(content: Content, path: Path, config: Config, plan: Plan, labels: list[str], amp: bool) -> None:
    """Refuse to go on where the result would be that of neither run.

    Raises:
        EventideError: architecture, configuration, labels, precision or amount of data differ; names what.
    """
    old = stored_config(content["config"], path)
    stored, wanted = describe_model(old), describe_model(config)
    if stored != wanted:
        keys = tensor_differences(content["model"], build(config).detector.state_dict())
        raise EventideError(
            f"{path} holds weights of {stored}, the configuration asks for {wanted}; v1 and v2 checkpoints are not "
            f"interchangeable: {shorten(keys)}"
        )
    keys = setting_differences(old, config)
    if content.get("amp", False) != amp:
        keys.append(f"--amp was {'on' if content.get('amp') else 'off'} and is {'on' if amp else 'off'}")
    if list(content["labels"]) != labels:
        keys.append(f"the labels were {list(content['labels'])} and are {labels}")
    if not keys and content.get("plan") != asdict(plan):
        keys += config_differences(content.get("plan") or {}, asdict(plan))
    if keys:
        raise EventideError(
            f"{path} belongs to a run with other settings: {shorten(keys)}. Go on with the same settings, or start a "
            "new run with another --output"
        )


def setting_differences(old: Config, new: Config) -> list[str]:
    """The keys that make another run, each with both values."""
    keys = config_differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
    return [text for text in keys if not text.startswith(tuple(f"{key} " for key in HARMLESS))]


def refuse_other_folder(folder: RunFolder, config: Config, path: Path) -> None:
    """Refuse to go on from the checkpoint at `path` in the folder of a run with other settings: they would mix.

    Raises:
        UsageError: names the settings that differ.
    """
    if _lies_in(path, folder) or not folder.config.is_file():
        return
    keys = setting_differences(load_config_with_origins(folder.config).config, config)
    if keys:
        raise UsageError(
            f"{folder.path} holds another run than {path}, with other settings: {shorten(keys)}; choose another name "
            "with --output"
        )


def take_over_best(folder: RunFolder, counters: Counters, path: Path) -> None:
    """See to it that the best model so far of the run that goes on from `path` is in its folder.

    From another folder it is copied. Where it is lost, the next evaluation is the best again.
    """
    if counters.best_metric is None or (_lies_in(path, folder) and folder.best.is_file()):
        return
    source = RunFolder(path.parent.parent).best
    if source.is_file() and stored_score(source) == counters.best_metric:
        write_file(folder.best, lambda file: file.write(source.read_bytes()))
    else:
        counters.best_metric, counters.best_epoch, counters.evaluated_epoch = None, 0, 0


def _lies_in(path: Path, folder: RunFolder) -> bool:
    return path.resolve().is_relative_to(folder.path.resolve())


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


def _training_device(config: Config) -> torch.device:
    device = pick_device(config.device)
    if config.train_cfg.compile:
        refuse_without_compiler(device)
    return device


def _compiled(
    detector: torch.nn.Module, module: torch.nn.Module, config: Config, plan: BatchPlan
) -> CompiledDetector | torch.nn.Module:
    """`detector`, which wraps `module`, through the compiler where the configuration asks for it."""
    if not config.train_cfg.compile:
        return detector
    return CompiledDetector(detector, module, min(config.loader.batch_size, plan.count), len(plan.lengths))
