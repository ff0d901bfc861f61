"""Predicting whole folders and splits: which model with which settings, and every recording once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from eventide.config import Config
from eventide.data.annotations import load_annotations
from eventide.data.dataset import EventDataset, grid_length
from eventide.data.features import FeatureStore, Source
from eventide.data.loader import evaluation_batches
from eventide.data.shards import is_shard_set
from eventide.engine.guard import memory_for
from eventide.engine.predict import Predictor, similar_lengths
from eventide.engine.weights import config_differences, describe_model, shorten, tensor_differences
from eventide.models import build
from eventide.types import Detections, EventideError, Recording, Sample, UsageError

# Beginnings of keys of `model` that change nothing in inference, or that belong to the weights whatever is configured.
TRAINING_ONLY = (
    "regression_range ",
    "dfl_weight ",
    "target_width ",
    "heatmap.",
    "backbone.padding ",
    "backbone.max_len ",
)
CALIBRATED = ("score_temperature", "class_threshold", "std_scale")  # keys of `test_cfg` that `eventide calibrate` sets


def with_data_of(config: Config, path: Path, source: Path) -> Callable[[Config], Config]:
    """How a stored configuration takes over the data and test settings of `config`, read from `path`; what calibration
    found stays the model's where `config` does not say otherwise.

    The result raises EventideError where `config` describes another model than the one stored in `source`.
    """

    def change(stored: Config) -> Config:
        refuse_other_model(stored, config, source, path)
        kept = {key: getattr(stored.dataset, key) for key in ("input_dim", "num_classes", "max_seq_len")}
        dataset = config.dataset.model_copy(update=kept)
        found = {key: getattr(stored.test_cfg, key) for key in CALIBRATED if getattr(config.test_cfg, key) is None}
        test_cfg = config.test_cfg.model_copy(update=found)
        return config.model_copy(
            update={"model": stored.model, "train_cfg": stored.train_cfg, "dataset": dataset, "test_cfg": test_cfg}
        )

    return change


def refuse_other_model(stored: Config, wanted: Config, source: Path, path: Path) -> None:
    """Raise EventideError where two configurations describe different models, with both names and what differs."""
    names = describe_model(stored), describe_model(wanted)
    if names[0] != names[1]:
        with torch.device("meta"):
            tensors = [build(config).detector.state_dict() for config in (stored, wanted)]
        differing = shorten(tensor_differences(tensors[0], tensors[1]))
        raise EventideError(
            f"{source} holds weights of {names[0]}, {path} asks for {names[1]}; v1 and v2 checkpoints are not "
            f"interchangeable: {differing}"
        )
    keys = config_differences(_model_keys(stored), _model_keys(wanted))
    keys = [text for text in keys if not text.startswith(tuple(f"model.{key}" for key in TRAINING_ONLY))]
    if keys:
        raise EventideError(f"{path} describes another model than {source}: {shorten(keys)}")


def _model_keys(config: Config) -> dict[str, Any]:
    dataset = {"input_dim": config.dataset.input_dim, "num_classes": config.dataset.num_classes}
    return {"dataset": dataset, "model": config.model.model_dump(mode="json")}


class Work(Protocol):
    """Recordings to predict, by id in the order of the results file, and the batches that they are predicted in.

    Batches follow from the lengths of all recordings, not from who predicts them: a result does not depend, even in
    its last digit, on how many processes there are.
    """

    ids: list[str]
    batches: list[list[int]]  # indices into `ids`, those of longer recordings first

    def cost(self, batch: int) -> int:
        """Feature vectors that a batch computes, padding included."""
        ...

    def stamp(self, index: int) -> list[float | None]:
        """Vectors, rate and duration of a recording: what its result depends on beside the model and its settings."""
        ...

    def changed(self, index: int) -> float:
        """When the features of a recording were last changed, in seconds since 1970; 0 where that is not known."""
        ...

    def detect(self, batches: Sequence[int]) -> Iterator[list[tuple[str, Detections]]]:
        """The detections of each of these batches, given as rising numbers, one batch after the other."""
        ...


class FolderWork:
    """Every feature file in a folder (several: files of one name are joined along channels).

    `recordings` gives rates and durations by id; the rate of others is `fps`, else the model's.
    """

    def __init__(
        self, predictor: Predictor, folders: Sequence[str], recordings: Mapping[str, Recording], fps: float | None
    ) -> None:
        self.predictor, self.settings = predictor, predictor.config.dataset
        self.recordings, self.fps = recordings, fps
        self.store = FeatureStore(folders, self.settings.file_prefix, self.settings.file_ext, self.settings.input_dim)
        self.ids = list_recordings(self.store, recordings)
        self.lengths = [grid_length(self.settings, self.store.length(name)) for name in self.ids]
        self.batches = list(similar_lengths(self.lengths, predictor.config.test_cfg.batch_size))

    def cost(self, batch: int) -> int:
        return padded_size(self.batches[batch], self.lengths)

    def stamp(self, index: int) -> list[float | None]:
        return [self.store.length(self.ids[index]), *self._rate_and_duration(self.ids[index])]

    def changed(self, index: int) -> float:
        return newest_change(self.store, self.ids[index])

    def detect(self, batches: Sequence[int]) -> Iterator[list[tuple[str, Detections]]]:
        for number in batches:
            names = [self.ids[index] for index in self.batches[number]]
            with memory_for(len(names), max(self.lengths[index] for index in self.batches[number])):
                samples = [self._sample(name) for name in names]
            yield list(zip(names, self.predictor.detect(samples), strict=True))

    def _sample(self, name: str) -> Sample:
        rows = torch.from_numpy(self.store.read(name))
        return self.predictor.prepare(rows, name, *self._rate_and_duration(name))

    def _rate_and_duration(self, name: str) -> tuple[float | None, float | None]:
        recording = self.recordings.get(name)
        # a model with one rate for all recordings was trained without looking at those in the annotations
        own = recording.fps if recording and self.settings.default_fps is None else None
        return own or self.fps, recording.duration if recording else None


class SplitWork:
    """Every recording of a subset of the data set that the predictor's configuration names.

    `annotations` replaces the file of the configuration; recordings without a rate have `fps`, else the model's.
    """

    def __init__(self, predictor: Predictor, split: str, annotations: Path | None, fps: float | None) -> None:
        config = self.config = predictor.config
        source = annotations or Path(config.dataset.json_file)
        fused = predictor.external is not None  # the classes are then those of the annotations, not the model's
        known = load_annotations(source, labels=None if fused else predictor.labels, require=False)
        if fused:
            predictor.inference.labels = known.labels
        known.recordings = {
            name: replace(recording, fps=recording.fps or fps or predictor.fps)
            for name, recording in known.recordings.items()
        }
        self.predictor = predictor
        self.dataset = EventDataset(config, [split], training=False, annotations=known)
        self.ids = [recording.id for recording in self.dataset.recordings]
        self.lengths = [self.dataset.length(index) for index in range(len(self.dataset))]
        order, size = sorted(range(len(self.ids)), key=lambda i: (-self.lengths[i], i)), config.test_cfg.batch_size
        self.batches = [order[start : start + size] for start in range(0, len(order), size)]

    def cost(self, batch: int) -> int:
        return padded_size(self.batches[batch], self.lengths)

    def stamp(self, index: int) -> list[float | None]:
        timeline = self.dataset.timeline(index)
        return [self.dataset.store.length(self.ids[index]), timeline.fps, timeline.duration]

    def changed(self, index: int) -> float:
        return newest_change(self.dataset.store, self.ids[index])

    def detect(self, batches: Sequence[int]) -> Iterator[list[tuple[str, Detections]]]:
        # whole batches, longest first: the loader of an evaluation makes the same of them
        chosen = self.dataset.restricted([index for number in batches for index in self.batches[number]])
        size, workers = self.config.test_cfg.batch_size, self.config.loader.num_workers
        for batch in evaluation_batches(chosen, size, workers):
            yield list(zip(batch.ids, self.predictor.detect_batch(batch), strict=True))


def padded_size(batch: Sequence[int], lengths: Sequence[int]) -> int:
    """Feature vectors that a batch of some of the `lengths` computes."""
    return len(batch) * max(lengths[index] for index in batch)


def newest_change(store: FeatureStore, name: str) -> float:
    """When a feature file of a recording was last changed, in seconds since 1970; 0 where it has none of its own."""
    newest = 0.0
    for source in store.sources(name):
        with suppress(OSError):
            found = os.stat(source.path)
            newest = max(newest, found.st_mtime if stat.S_ISREG(found.st_mode) else 0.0)
    return newest


def describe_features(store: FeatureStore) -> list[str]:
    """Where features come from, with what shards were made from."""
    places = [folder if "://" in folder else os.path.abspath(folder) for folder in store.folders]
    return places + [store.state(Source(folder, "")) for folder in store.folders if is_shard_set(folder)]


def list_recordings(store: FeatureStore, recordings: Mapping[str, Recording]) -> list[str]:
    """Ids of the recordings in a feature store, sorted; an HDF5 file is asked for those of the annotations.

    Raises:
        EventideError: there is none.
    """
    first = Path(store.folders[0])
    if first.is_file():
        if not recordings:
            raise UsageError(f"--features {first}: an HDF5 file needs --annotations, which names its recordings")
        ids = [name for name in sorted(recordings) if store.exists(name)]
    else:
        ids = store.ids()
    if not ids:
        raise EventideError(
            f"{first}: no feature files {store.prefix}*{store.ext}; set --set dataset.file_ext=... and "
            "dataset.file_prefix=... to what the names are"
        )
    return ids
