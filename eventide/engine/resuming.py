"""Going on with a run: from which checkpoint, and only as the same run."""

from __future__ import annotations

import filecmp
import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eventide.config import Config
from eventide.config_loading import load_config_with_origins
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint, newest_readable
from eventide.engine.model_file import stored_config, stored_score
from eventide.engine.run_folder import RunFolder
from eventide.engine.schedule import Plan
from eventide.engine.state import Counters
from eventide.engine.weights import config_differences, describe_model, shorten, tensor_differences
from eventide.models import build
from eventide.ops.files import write_file
from eventide.ops.problems import name_some
from eventide.types import EventideError, UsageError

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
    "train_cfg.auto_microbatch",
    "train_cfg.async_checkpoints",
    "train_cfg.strategy",
    "opt.scale_learning_rate",
    "test_cfg.batch_size",
)
Content = Mapping[str, Any]


def resume_of_restart(folder: RunFolder, resume: str | None, restarted: bool) -> str | None:
    """What `--resume` is for processes that torchrun has started anew: they go on with their own run."""
    if restarted and (resume is None or list_checkpoints(folder.checkpoints)):
        return "auto"
    return resume


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


def set_aside_other_course(folder: RunFolder, path: Path, best: float | None, say: Callable[[str], object]) -> None:
    """Rename what the run in `folder` has of another course than the checkpoint at `path`, which was asked for by name
    and knows a `best` score: `--resume auto` would go on from later checkpoints, and they would push out the new ones.

    Of a checkpoint that is not of this folder, nor a copy from it, all of the folder's are another course.
    """
    known = list_checkpoints(folder.checkpoints)  # newest first
    own = next((number for number, other in enumerate(known) if _is_same_file(other, path)), len(known))
    left = known[:own]
    if left and folder.last.is_file():
        left.append(folder.last)
    if folder.best.is_file() and stored_score(folder.best) != best:
        left.append(folder.best)
    for other in left:
        other.rename(_free_name(other))
    if left:
        names = name_some([other.name for other in left])
        say(f"set aside as *.aside in {folder.path}, since {path} is gone on from and they came after it: {names}")


def _is_same_file(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or filecmp.cmp(one, other, shallow=False)


def _free_name(path: Path) -> Path:
    """`path` with `.aside` behind it, and a number where that is taken."""
    names = (path.with_name(f"{path.name}.aside{number or ''}") for number in itertools.chain((0,), itertools.count(2)))
    return next(name for name in names if not name.exists())


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
    if counters.best_metric is None:
        return
    here = stored_score(folder.best) if folder.best.is_file() else None
    # a better one that lies beside the checkpoint came after it, just before the run was killed, and will come again
    if here is not None and (here == counters.best_metric or (here > counters.best_metric and _lies_in(path, folder))):
        return
    source = RunFolder(path.parent.parent).best
    if source.is_file() and stored_score(source) == counters.best_metric:
        write_file(folder.best, lambda file: file.write(source.read_bytes()))
    else:
        counters.best_metric, counters.best_epoch, counters.evaluated_epoch = None, 0, 0


def _lies_in(path: Path, folder: RunFolder) -> bool:
    return path.resolve().is_relative_to(folder.path.resolve())
