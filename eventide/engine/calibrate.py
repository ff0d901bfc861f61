"""Calibrating a trained model on an annotated split: one pass of the model, then everything else on what it found."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eventide.config import Config, TestConfig
from eventide.data.annotations import AnnotationSet, load_annotations
from eventide.data.dataset import EventDataset, makes_proposals
from eventide.data.loader import evaluation_batches
from eventide.engine.guard import memory_for
from eventide.engine.inference import Inference
from eventide.engine.model_file import StoredModel, load_model, replace_config
from eventide.engine.postprocess import postprocess
from eventide.engine.predict import Predictor
from eventide.engine.predict_files import CALIBRATED, with_data_of
from eventide.engine.run_folder import RunFolder
from eventide.engine.weights import config_differences, shorten
from eventide.evaluation.calibration import FLOOR, NUM_BINS, scale_scores
from eventide.evaluation.events import GroundTruth
from eventide.evaluation.judged import Judged, judge
from eventide.evaluation.operating_point import (
    QUANTILES,
    Calibration,
    Measured,
    fit_calibration,
    measure,
    precision_recall_f1,
    together,
)
from eventide.types import Candidates, EventideError, Timeline, UsageError

Progress = Callable[[str, int, int], object]  # what is being done, how much of it, of how much


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    config: Config  # data, and how candidates become detections
    config_path: Path
    splits: Sequence[str]
    annotations: Path | None = None  # in place of the configuration's
    tiou: float | None = None  # from which a segment is right
    tolerance: float | None = None  # up to which a point is right, seconds
    folds: int | None = None
    group: str | None = None  # regular expression: recordings in which it finds the same are in one fold
    device: str = "auto"
    force: bool = False


class Collected:
    """The candidates of every recording of a split, and the verdicts on what they become at a temperature."""

    def __init__(
        self, inference: Inference, dataset: EventDataset, truth: GroundTruth, settings: TestConfig, limit: float
    ) -> None:
        self.inference, self.dataset, self.truth = inference, dataset, truth
        self.settings, self.limit = settings, limit
        self.candidates: dict[str, tuple[Candidates, Timeline]] = {}
        self.judged = lru_cache(maxsize=4)(self._judged)
        self._costs: dict[float, np.ndarray] = {}

    def run_model(self, num_workers: int, on_progress: Progress) -> None:
        """Run the model once over every recording."""
        for batch in evaluation_batches(self.dataset, self.settings.batch_size, num_workers):
            with memory_for(len(batch.ids), max(batch.lengths)):
                found = self.inference.candidates(batch)
            self.candidates.update(zip(batch.ids, zip(found, batch.timelines, strict=True), strict=True))
            on_progress("predicting", len(self.candidates), len(self.dataset))

    def _judged(self, temperature: float) -> Judged:
        """Verdicts on the final detections at a temperature, as prediction with it would give them."""
        kind, labels = self.inference.kind, self.inference.labels
        detections = {
            name: postprocess(self._scaled(candidates, temperature), timeline, self.settings, labels, kind)
            for name, (candidates, timeline) in self.candidates.items()
        }
        return judge(self.truth, detections, self.limit, len(labels))

    def costs(self, temperature: float) -> np.ndarray:
        """The costs (R,) of these verdicts, which are kept: verdicts of all temperatures would fill the memory."""
        if temperature not in self._costs:
            self._costs[temperature] = self.judged(temperature).costs()
        return self._costs[temperature]

    def fit(self, recordings: np.ndarray | None = None) -> Calibration:
        """The calibration fitted on all or on some of the recordings, (R,) bool."""
        rows = np.ones(len(self.truth.recordings), bool) if recordings is None else recordings
        return fit_calibration(
            lambda t: self.judged(t).of(rows), len(self.inference.labels), lambda t: float(self.costs(t)[rows].sum())
        )

    def measure(self, fitted: Calibration, recordings: np.ndarray | None = None) -> Measured:
        """What a calibration is worth on all or on some of the recordings."""
        both = [self.judged(temperature) for temperature in (1.0, fitted.temperature)]
        before, after = both if recordings is None else [judged.of(recordings) for judged in both]
        return measure(before, after, fitted)

    def _scaled(self, candidates: Candidates, temperature: float) -> Candidates:
        """What a decoder with this temperature gives: its candidates are the same, but for those scoring too low."""
        scores = scale_scores(candidates.scores, temperature)
        return replace(candidates, scores=scores).take(scores > self.settings.pre_nms_thresh)


def calibrate(checkpoint: Path, request: Request, on_progress: Progress) -> dict[str, Any]:
    """Fit a model's calibration on a split, store it in the model's file, and report what it is worth.

    Raises:
        UsageError: no model file, or options that do not fit the model or the split.
        EventideError: the model is calibrated already, the split has no events, or nothing right was found.
    """
    path = model_file_of(checkpoint)
    folder = RunFolder(path.parent)
    # a training that goes on here would put another model in this file meanwhile
    with folder.locked() if (folder.path / "lock").exists() else nullcontext():
        model = load_model(path)
        refuse_calibrated(model.config, path, request.force)
        limit = limit_of(model.config, request)
        config = uncalibrated(with_data_of(request.config, request.config_path, path)(model.config))
        collected, warnings = prepare(model, config, path, request, limit)
        folds = None if request.folds is None else folds_of(collected.truth.recordings, request.folds, request.group)
        collected.run_model(config.loader.num_workers, on_progress)
        fitted = collected.fit()
        described = describe(collected.measure(fitted), fitted, model.labels)
        report = {
            "checkpoint": str(path),
            "config": str(request.config_path),
            "split": list(request.splits),
            "kind": collected.inference.kind,
            "right_from": {"tolerance" if collected.inference.kind == "points" else "tiou": limit},
            "recordings": len(collected.truth.recordings),
            "score_floor": FLOOR,
            "bins": NUM_BINS,
            **described,
            "held_out": None if folds is None else held_out(collected, folds, on_progress),
            "notes": [
                *warnings,
                *notes_on(described, request, model.config),
                *changes(model.config.test_cfg, config.test_cfg),
            ],
        }
        store(path, model, config.test_cfg, fitted, report)
    return report


def model_file_of(checkpoint: Path) -> Path:
    """The model file that `checkpoint`, a run's folder or the file itself, means.

    Raises:
        UsageError: there is none.
    """
    path = RunFolder(checkpoint).best if checkpoint.is_dir() else checkpoint
    if not path.is_file():
        where = f"{checkpoint} has no best.safetensors" if checkpoint.is_dir() else f"there is no model at {checkpoint}"
        raise UsageError(f"--checkpoint: {where}; give the model file that training has written, or its run's folder")
    if path.suffix != ".safetensors":
        raise UsageError(
            f"--checkpoint {checkpoint}: a calibration is stored in a model file, not in a training checkpoint; give "
            "best.safetensors, or the run's folder"
        )
    return path


def refuse_calibrated(config: Config, path: Path, force: bool) -> None:
    """Raise EventideError where a model holds a calibration and nobody asked for another."""
    held = [key for key in CALIBRATED if getattr(config.test_cfg, key) is not None]
    if held and not force:
        names = ", ".join(f"test_cfg.{key}" for key in held)
        raise EventideError(f"{path} holds a calibration already ({names}); --force replaces it")


def limit_of(config: Config, request: Request) -> float:
    """From which tIoU a segment is right, or up to how many seconds a point is."""
    points = config.resolve().dataset.events == "points"
    if points and request.tiou is not None:
        raise UsageError("--tiou: this model finds points; give --tolerance, in seconds")
    if not points and request.tolerance is not None:
        raise UsageError("--tolerance: this model finds segments; give --tiou")
    given = request.tolerance if points else request.tiou
    return 0.5 if given is None else given


def uncalibrated(config: Config) -> Config:
    """The configuration without what calibration sets."""
    return config.model_copy(update={"test_cfg": config.test_cfg.model_copy(update=dict.fromkeys(CALIBRATED))})


def prepare(
    model: StoredModel, config: Config, path: Path, request: Request, limit: float
) -> tuple[Collected, list[str]]:
    """The uncalibrated model and the split, ready to run, and what a user should know."""
    if config.test_cfg.ext_score_file:
        raise UsageError("test_cfg.ext_score_file: the scores of this model itself are calibrated; leave this key out")
    asked = config.test_cfg.model_copy(update={"quantiles": list(QUANTILES)})
    # every candidate, since another temperature may lift it above the lowest score
    config = config.model_copy(update={"test_cfg": asked.model_copy(update={"pre_nms_thresh": 0.0})})
    known = annotations_for(model, config, request.annotations or Path(config.dataset.json_file))
    dataset = EventDataset(config, request.splits, training=False, annotations=known)
    predictor = Predictor(replace(model, config=config), device=request.device, source=str(path))
    kind = predictor.inference.kind
    truth = GroundTruth.from_recordings(dataset.recordings, model.labels, kind, config.dataset.point_position)
    if len(truth) == 0:
        splits = " and ".join(map(repr, request.splits))
        raise EventideError(
            f"{known.path}: the {len(truth.recordings)} recording(s) of split {splits} have no events: there is "
            "nothing to calibrate on"
        )
    return Collected(predictor.inference, dataset, truth, asked, limit), [*known.warnings, *dataset.warnings]


def annotations_for(model: StoredModel, config: Config, source: Path) -> AnnotationSet:
    """Annotations with the label ids of the model and a rate for every recording, as prediction takes it."""
    known = load_annotations(source)
    if makes_proposals(config.dataset, known):
        zero = {r.id: replace(r, label_ids=np.zeros_like(r.label_ids)) for r in known.recordings.values()}
        known = replace(known, recordings=zero)
    else:
        known = load_annotations(source, labels=model.labels)
    rated = {r.id: replace(r, fps=r.fps or model.fps) for r in known.recordings.values()}
    return replace(known, recordings=rated)


def folds_of(recordings: Sequence[str], folds: int, group: str | None) -> np.ndarray:
    """The fold (R,) of every recording: groups, sorted by name, are dealt out in turn.

    Raises:
        UsageError: the expression is none, or finds nothing in a recording; there are fewer groups than folds.
    """
    names = list(recordings)
    if group is not None:
        try:
            found = [re.search(group, name) for name in recordings]
        except re.error as error:
            raise UsageError(f"--group {group!r} is no regular expression: {error}") from None
        missing = [name for name, match in zip(recordings, found, strict=True) if match is None]
        if missing:
            raise UsageError(f"--group {group!r} finds nothing in recording {missing[0]!r} ({len(missing)} in all)")
        names = [match.group(match.re.groups and 1) or "" for match in found if match is not None]
    order = {name: index for index, name in enumerate(sorted(set(names)))}
    if len(order) < folds:
        raise UsageError(
            f"--folds {folds}: there are only {len(order)} {'groups' if group else 'recordings'} to divide"
        )
    return np.array([order[name] % folds for name in names])


def held_out(collected: Collected, fold_of: np.ndarray, on_progress: Progress) -> dict[str, Any]:
    """What a calibration is worth on recordings that it was not fitted on: of each fold, and of all of them."""
    parts, fitted, folds = [], [], int(fold_of.max()) + 1
    for fold in range(folds):
        on_progress("held-out recordings", fold, folds)
        inside = fold_of == fold
        try:
            fitted.append(collected.fit(~inside))
        except EventideError as error:
            raise EventideError(f"--folds: without the recordings of part {fold + 1}, {error}") from None
        parts.append(collected.measure(fitted[-1], inside))
    each = [
        {
            "recordings": [name for name, f in zip(collected.truth.recordings, fold_of, strict=True) if f == fold],
            "temperature": calibration.temperature,
            "std_scale": calibration.std_scale,
            **part.to_dict(),
        }
        for fold, (calibration, part) in enumerate(zip(fitted, parts, strict=True))
    ]
    return {"folds": each, "together": together(parts).to_dict()}


def describe(measured: Measured, fitted: Calibration, labels: Sequence[str]) -> dict[str, Any]:
    """What was fitted, and what it is worth on the recordings that it was fitted on."""
    classes = [
        {"label": label, "threshold": threshold, "own": not why, "why": why, **precision_recall_f1(counts)}
        for label, threshold, why, counts in zip(
            labels, fitted.thresholds.tolist(), fitted.why_common, measured.counts, strict=True
        )
    ]
    return {
        "temperature": fitted.temperature,
        "common_threshold": fitted.common_threshold,
        "std_scale": fitted.std_scale,
        "classes": classes,
        **measured.to_dict(),
    }


def notes_on(described: dict[str, Any], request: Request, trained: Config) -> list[str]:
    """What a user should wonder about. `trained` is the configuration that the model was trained with."""
    own = [f"test_cfg.{key}" for key in CALIBRATED if getattr(request.config.test_cfg, key) is not None]
    notes = [f"{request.config_path} sets {', '.join(own)}, which goes before what the model holds"] if own else []
    known = {name.lower() for name in trained.train_split}
    if seen := [name for name in request.splits if name.lower() in known]:
        notes.append(
            f"the model was trained on {' and '.join(seen)}: it is surer there than on new recordings, "
            "so calibrate on another split"
        )
    error = described["calibration_error"]
    if error["after"]["error"] > error["before"]["error"]:
        notes.append(
            "the calibration error grew: one temperature makes the detections likelier as a whole, but does not fit "
            "low and high scores alike; the order of detections and the thresholds hold, scores are no probabilities"
        )
    if not 0.11 < described["temperature"] < 9:
        notes.append("the temperature is at the end of what is tried (0.1 to 10): do not trust the scores")
    if "intervals" in described and described["std_scale"] is None:
        notes.append("no scale makes the intervals hold what they claim; none is stored")
    return notes


def changes(stored: TestConfig, used: TestConfig) -> list[str]:
    """A note where the post-processing that was calibrated is not the one that the model holds so far."""
    left_out = {*CALIBRATED, "batch_size"}
    before, after = (settings.model_dump(mode="json", exclude=left_out) for settings in (stored, used))
    differences = config_differences(before, after, "test_cfg.")
    return [f"stored with the model, too: {shorten(differences)}"] if differences else []


def store(path: Path, model: StoredModel, settings: TestConfig, fitted: Calibration, report: dict[str, Any]) -> None:
    """Put a calibration, with the post-processing that it was fitted for, into the model's file.

    What it was fitted on is kept beside it, for people to read.
    """
    thresholds = dict(zip(model.labels, fitted.thresholds.tolist(), strict=True))
    values = {"score_temperature": fitted.temperature, "class_threshold": thresholds, "std_scale": fitted.std_scale}
    config = model.config.model_copy(update={"test_cfg": settings.model_copy(update=values)})
    origin = {key: report[key] for key in ("config", "split", "right_from", "recordings", "events")}
    replace_config(path, config, {"calibration": origin})
