"""Recordings predicted by one or many processes into one results file, from where an earlier run has ended."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from eventide.config import Config
from eventide.engine.model_file import StoredModel
from eventide.engine.predict_files import Work
from eventide.engine.predict_parts import DIGESTS, PartFolder, PartLine, PartWriter, part_line
from eventide.engine.predict_shares import share_out
from eventide.engine.predict_together import FAILED, FINISHED, OVER, WORKING, Attempt, Plan, begin
from eventide.engine.processes import Launch
from eventide.evaluation.results import write_records_csv, write_result_texts
from eventide.types import Detections, EventideError

OPEN_FILES = 64  # part files open at a time while the results are written
DATA_SECTIONS = ("json_file", "feat_folder")  # keys of `dataset` that say where, not what


@dataclass(frozen=True)
class Goal:
    """What is written."""

    output: Path
    csv: Path | None = None
    min_score: float | None = None
    force: bool = False


@dataclass(frozen=True)
class Callbacks:
    """What the command shows; recordings are counted over all processes and earlier runs."""

    begin: Callable[[int, int], object]  # finished before, in all
    progress: Callable[[int, int], object]  # finished, in all
    failure: Callable[[EventideError | OSError, int, int], object]  # what went wrong, finished, in all


PAUSE = 0.5  # seconds between two looks at how far the other processes are


@dataclass(frozen=True)
class Outcome:
    """How a process has ended. `incomplete` recordings are left for another run; the other numbers are the first
    process's to know.
    """

    error: EventideError | OSError | None = None  # said already
    recordings: int = 0
    detections: int = 0
    predicted: int = 0  # recordings, by this run
    incomplete: int = 0


def result_settings(model: StoredModel, config: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that results depend on beside the features: the content of the model, the configuration in use, `options`."""
    dataset = config.dataset.model_dump(mode="json", exclude=set(DATA_SECTIONS))
    test_cfg = config.test_cfg.model_dump(mode="json", exclude={"batch_size"})  # changes no result
    scores = config.test_cfg.ext_score_file
    return {
        DIGESTS: {"the checkpoint": model_digest(model), "ext_score_file": scores and _file_digest(Path(scores))},
        **options,
        "dataset": dataset,
        "model": config.model.model_dump(mode="json"),
        "test_cfg": test_cfg,
    }


def model_digest(model: StoredModel) -> str:
    """SHA-256 of weights, labels and rate, in hexadecimal digits."""
    digest = hashlib.sha256(json.dumps([model.labels, model.fps]).encode())
    for name in sorted(model.tensors):
        tensor = model.tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def predict_to_files(
    work: Work, settings: Mapping[str, Any], goal: Goal, launch: Launch, shown: Callbacks, *, key: str | None = None
) -> Outcome:
    """Predict this process's share of what is not finished yet; the first process waits for the others and writes the
    results when all is there.

    Raises:
        EventideError: parts of other settings are there, or another run is at work. What goes wrong afterwards is told
            to `shown.failure` at once, before this process waits for the others.
    """
    folder = PartFolder(goal.output)
    plan = plan_of(work)
    attempt = begin(folder, launch, plan, settings, lambda: _unfinished(folder, work), force=goal.force, key=key)
    try:
        return _Run(work, goal, attempt, shown).run()
    finally:
        attempt.close()
        if launch.size == 1 and not folder.merging.exists() and not folder.parts():
            folder.remove()  # nothing was finished: nothing is left


def plan_of(work: Work) -> Plan:
    """What there is to do, and what the shares follow from."""
    costs = [work.cost(number) for number in range(len(work.batches))]
    text = json.dumps([work.ids, work.batches, costs])
    return Plan(len(work.ids), len(work.batches), hashlib.sha256(text.encode()).hexdigest())


class _Run:
    """One process on its way through its share."""

    def __init__(self, work: Work, goal: Goal, attempt: Attempt, shown: Callbacks) -> None:
        self.work, self.goal, self.attempt, self.shown = work, goal, attempt, shown
        self.total = len(work.ids)
        self.before = self.total - sum(len(work.batches[number]) for number in attempt.remaining)
        self.done = 0
        self._next_look = 0.0

    def run(self) -> Outcome:
        self.shown.begin(self.before, self.total)
        error = self._own_share()
        self.attempt.say(FAILED if error else FINISHED, self.done)
        if not self.attempt.launch.is_first:
            self.attempt.wait_for_first()
            return Outcome(error)
        self.attempt.wait_for_all(self._show)
        self.attempt.say(OVER, self.done)
        if error:
            return Outcome(error)
        predicted = self.done + self.attempt.done_by_others()
        detections, missing = self._merge()
        return Outcome(None, self.total, detections, predicted, missing)

    def _own_share(self) -> EventideError | OSError | None:
        """Predict; what went wrong, said already, or None."""
        work, remaining = self.work, self.attempt.remaining
        launch = self.attempt.launch
        shares = share_out([work.cost(number) for number in remaining], launch.size)
        mine = [remaining[position] for position in shares[launch.rank]]
        writer = PartWriter(self.attempt.part)
        position = {name: index for index, name in enumerate(work.ids)}
        try:
            for found in work.detect(mine) if mine else ():
                now = time.time()
                writer.write(
                    part_line(name, self._kept(detections), work.stamp(position[name]), now)
                    for name, detections in found
                )
                self.done += len(found)
                self.attempt.say(WORKING, self.done)
                self._show()
            writer.close()
        except (EventideError, OSError) as error:
            self.shown.failure(error, self._finished(), self.total)
            return error
        return None

    def _kept(self, detections: Detections) -> Detections:
        least = self.goal.min_score
        return detections if least is None else detections.take(detections.scores >= least)

    def _finished(self) -> int:
        return self.before + self.done + self.attempt.done_by_others()

    def _show(self) -> None:
        now = time.monotonic()
        if self.attempt.launch.is_first and now >= self._next_look:
            self._next_look = now + PAUSE
            self.shown.progress(self._finished(), self.total)

    def _merge(self) -> tuple[int, int]:
        """Write the results from the parts and remove these, if nothing is missing; detections, recordings missing."""
        folder = self.attempt.folder
        with folder.locked():
            lines = folder.finished(self.attempt.name)
            own = f"{self.attempt.name}-"
            fresh = {self.work.ids[index] for number in self.attempt.remaining for index in self.work.batches[number]}
            missing = [
                name
                for name in self.work.ids
                if name not in lines or (name in fresh and not lines[name].path.name.startswith(own))
            ]
            if missing:
                return 0, len(missing)
            folder.merging.touch()
            chosen = [lines[name] for name in self.work.ids]
            if self.goal.csv is not None:  # before the results: where these are, all is there
                rows = ((name, json.loads(text)) for name, text in _texts(chosen))
                write_records_csv(self.goal.csv, (line.columns for line in chosen), rows)
            write_result_texts(self.goal.output, _texts(chosen))
        self.attempt.close()
        self.attempt.wait_for_end()
        folder.remove()
        return sum(line.detections for line in chosen), 0


def _texts(lines: Sequence[PartLine]) -> Iterator[tuple[str, bytes]]:
    """Each recording with its records as JSON, read when it is due."""
    files: dict[Path, BinaryIO] = {}
    with ExitStack() as stack:
        for line in lines:
            if line.path not in files:
                if len(files) == OPEN_FILES:
                    stack.close()
                    files.clear()
                files[line.path] = stack.enter_context(line.path.open("rb"))
            yield line.recording, line.text(files[line.path])


def _unfinished(folder: PartFolder, work: Work) -> list[int]:
    """Batches with a recording that no part holds, or only as it was before its features, rate or duration changed."""
    lines = folder.finished()

    def is_finished(index: int) -> bool:
        line = lines.get(work.ids[index])
        return line is not None and line.stamp == work.stamp(index) and line.written >= work.changed(index)

    return [number for number, batch in enumerate(work.batches) if not all(map(is_finished, batch))]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
