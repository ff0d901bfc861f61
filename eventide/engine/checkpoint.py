"""Training checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from eventide.engine.model_file import StoredModel, stored_config
from eventide.engine.safe_loading import load_tensors
from eventide.ops.files import write_file
from eventide.types import EventideError

FORMAT = "eventide-checkpoint-1"
NAME = re.compile(r"step_(\d{8,})\.pt")
REQUIRED = ("config", "labels", "fps", "model", "criterion", "average", "optimizer", "counters")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps lies."""
    return folder / f"step_{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def save_checkpoint(path: Path, content: Mapping[str, Any], keep: int) -> None:
    """Write `content` (tensors and plain containers) to `path`, then remove all but the newest `keep` beside it."""
    write_file(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    for old in list_checkpoints(path.parent)[keep:]:
        if old != path:
            old.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint; only tensors and plain containers are accepted, no code is ever run.

    Raises:
        EventideError: it is not there, damaged, cut off, or no Eventide checkpoint.
    """
    if not path.is_file():
        raise EventideError(f"there is no checkpoint at {path}")
    content = load_tensors(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        hint = ""
        if isinstance(content, dict) and ("state_dict_ema" in content or "state_dict" in content):
            hint = "; a checkpoint of the published ActionFormer code goes through `eventide import-actionformer`"
        raise EventideError(f"{path} is no Eventide checkpoint (format {FORMAT!r} expected){hint}")
    missing = [key for key in REQUIRED if key not in content]
    if missing:
        raise EventideError(f"{path} is no complete Eventide checkpoint: {', '.join(missing)} missing")
    return content


def newest_readable(folder: Path, say: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint in `folder` that can be read, with its content; None where there is none at all.

    Raises:
        EventideError: there are checkpoints and none can be read.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return path, load_checkpoint(path)
        except EventideError as error:
            say(f"warning: {error} (trying the one before it)")
    if paths:
        raise EventideError(
            f"none of the {len(paths)} checkpoints in {folder} can be read; remove them to start the run afresh"
        )
    return None


def stored_model(content: Mapping[str, Any], path: Path) -> StoredModel:
    """The averaged model in a checkpoint's content."""
    return StoredModel(
        stored_config(content["config"], path), list(content["labels"]), content["fps"], content["average"]["module"]
    )
