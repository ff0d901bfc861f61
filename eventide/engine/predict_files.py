"""Predicting whole folders and splits: which model with which settings, and every recording once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eventide.config import Config
from eventide.data.annotations import load_annotations
from eventide.data.dataset import EventDataset, grid_length
from eventide.data.features import FeatureStore
from eventide.engine.evaluate import detect_dataset
from eventide.engine.predict import Predictor, similar_lengths
from eventide.engine.weights import config_differences, describe_model, shorten, tensor_differences
from eventide.models import build
from eventide.types import Detections, EventideError, Recording, UsageError

Progress = Callable[[int, int], object]  # recordings done, recordings in all
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


def predict_split(
    predictor: Predictor, split: str, annotations: Path | None, fps: float | None, on_progress: Progress
) -> dict[str, Detections]:
    """Detections of every recording of a subset of the data set that the predictor's configuration names.

    `annotations` replaces the file of the configuration; recordings without a rate have `fps`, else the model's.
    """
    config = predictor.config
    source = annotations or Path(config.dataset.json_file)
    fused = predictor.external is not None  # the classes are then those of the annotations, not the model's
    known = load_annotations(source, labels=None if fused else predictor.labels, require=False)
    if fused:
        predictor.inference.labels = known.labels
    known.recordings = {
        name: replace(recording, fps=recording.fps or fps or predictor.fps)
        for name, recording in known.recordings.items()
    }
    dataset = EventDataset(config, [split], training=False, annotations=known)
    return detect_dataset(predictor.inference, dataset, config.loader.num_workers, on_progress)


def predict_folder(
    predictor: Predictor,
    folders: Sequence[Path],
    recordings: Mapping[str, Recording],
    fps: float | None,
    on_progress: Progress,
) -> dict[str, Detections]:
    """Detections of every feature file in a folder (several: files of one name are joined along channels).

    `recordings` gives rates and durations by id; the rate of others is `fps`, else the model's.
    """
    settings = predictor.config.dataset
    store = FeatureStore([str(f) for f in folders], settings.file_prefix, settings.file_ext, settings.input_dim)
    ids = list_recordings(store, recordings)
    lengths = [grid_length(settings, store.length(name)) for name in ids]
    found: dict[str, Detections] = {}
    for group in similar_lengths(lengths, predictor.config.test_cfg.batch_size):
        samples = []
        for name in (ids[index] for index in group):
            recording = recordings.get(name)
            # a model with one rate for all recordings was trained without looking at those in the annotations
            own = recording.fps if recording and settings.default_fps is None else None
            rate, duration = own or fps, recording.duration if recording else None
            samples.append(predictor.prepare(torch.from_numpy(store.read(name)), name, rate, duration))
        found.update(zip((sample.id for sample in samples), predictor.detect(samples), strict=True))
        on_progress(len(found), len(ids))
    return {name: found[name] for name in ids}


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
        names = sorted(path.name for path in first.iterdir() if path.is_file())
        fitting = [name for name in names if name.startswith(store.prefix) and name.endswith(store.ext)]
        ids = [name.removeprefix(store.prefix).removesuffix(store.ext) for name in fitting]
        ids = [name for name in ids if name]
    if not ids:
        raise EventideError(
            f"{first}: no feature files {store.prefix}*{store.ext}; set --set dataset.file_ext=... and "
            "dataset.file_prefix=... to what the names are"
        )
    return ids
