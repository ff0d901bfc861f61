"""The two model files of a training, best and last, also where they cannot be written at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from eventide.config import Config
from eventide.engine.checkpoint_writer import CheckpointWriter, copied, refuse_gone_folder
from eventide.engine.model_file import StoredModel, save_model
from eventide.engine.progress import Reporter
from eventide.engine.run_folder import RunFolder
from eventide.engine.state import Counters
from eventide.types import EventideError


@dataclass
class Best:
    """The best model so far while it is not in its file."""

    tensors: dict[str, Tensor]
    metric: float
    epoch: int
    step: int


class ModelKeeper:
    """Writes the averaged weights of a run; of several processes only the first uses it."""

    def __init__(
        self, folder: RunFolder, config: Config, labels: list[str], fps: float | None, reporter: Reporter
    ) -> None:
        self.folder, self.config, self.labels, self.fps, self.reporter = folder, config, labels, fps, reporter
        self._waiting: Best | None = None
        self._said = False  # that it waits

    def is_best(self, metric: float, counters: Counters) -> bool:
        """Whether no earlier evaluation was better; of equals the later is kept."""
        best = self._waiting.metric if self._waiting is not None else counters.best_metric
        return best is None or metric >= best

    def evaluated(self, tensors: Mapping[str, Tensor], metric: float, epoch: int, counters: Counters) -> None:
        """Take over what was evaluated after `epoch`: the best is written. What could not be is tried again now.

        The counters name the best that is in its file. Where the one of this epoch is not, a run that goes on from
        here evaluates it again.
        """
        counters.evaluated_epoch = epoch
        if self.is_best(metric, counters):
            self._waiting = Best(dict(tensors), metric, epoch, counters.step)
        if self._waiting is None:
            return
        if failure := self._write_best(counters):
            if not self._said:
                self._said = True
                text = "training goes on, it is tried again after each evaluation and at the end"
                self.reporter.line(f"warning: the best model is not kept yet: {failure}; {text}")
            if self._waiting.epoch == epoch:
                counters.evaluated_epoch = epoch - 1
                self._waiting.tensors = copied(self._waiting.tensors)

    def _write_best(self, counters: Counters) -> str:
        """Write what waits; why it could not be written."""
        best = self._waiting
        if best is None:
            return ""
        if failure := self._write("best", best.tensors, best.step, best.metric):
            return failure
        counters.best_metric, counters.best_epoch = best.metric, best.epoch
        self._waiting = None
        if self._said:
            self._said = False
            self.reporter.line(f"the best model is kept again: {self.folder.best}")
        return ""

    def _write(self, name: str, tensors: Mapping[str, Tensor], step: int, metric: float | None) -> str:
        path = self.folder.best if name == "best" else self.folder.last
        extra: dict[str, Any] = {"step": step, "average_mAP": metric}
        try:
            refuse_gone_folder(path)
            save_model(path, StoredModel(self.config, self.labels, self.fps, dict(tensors)), extra)
        except EventideError as error:
            return str(error)
        except OSError as error:
            return f"{path}: cannot be written: {error.strerror or error}"
        return ""

    def finish(self, tensors: Mapping[str, Tensor], counters: Counters, *, evaluates: bool) -> list[str]:
        """Write the last model, and as the best the last one where nothing was evaluated; what could not be written."""
        problems = [self._write("last", tensors, counters.step, None)]
        if not evaluates:
            problems.append(self._write("best", tensors, counters.step, None))
        elif failure := self._write_best(counters):
            lost = self._waiting is not None and counters.evaluated_epoch >= self._waiting.epoch
            problems.append(f"{failure} (the better model of an earlier epoch is lost)" if lost else failure)
        return [problem for problem in problems if problem]


def refuse_incomplete(problems: list[str], writer: CheckpointWriter) -> None:
    """Raise EventideError where a run that is done lacks files: says which, and how to go on."""
    writer.wait()
    missing = [*problems, *([writer.failure] if writer.failure else [])]
    if missing:
        kept = f"The last checkpoint is {writer.last}: make" if writer.last else "There is no checkpoint: make"
        raise EventideError(
            f"the training is done, but not all of it could be written: {'; '.join(missing)}. {kept} room or mend the "
            "folder, then run the same command with --resume auto, which writes what is missing"
        )
