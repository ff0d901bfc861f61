"""A trained model in use: features in, detections in seconds out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from eventide.config import Config, DatasetConfig, sum_of
from eventide.data.dataset import resize, timeline_of
from eventide.data.formats import read_header, read_rows
from eventide.data.loader import collate
from eventide.engine.checkpoint import load_checkpoint, newest_readable, stored_model
from eventide.engine.devices import mixed_precision, pick_device
from eventide.engine.external_scores import ExternalScores
from eventide.engine.guard import memory_for
from eventide.engine.inference import Inference
from eventide.engine.model_file import StoredModel, load_model
from eventide.engine.postprocess import check_settings
from eventide.engine.run_folder import RunFolder
from eventide.engine.weights import describe_model, load_weights
from eventide.models import build
from eventide.types import Batch, Detections, EventideError, Recording, Sample, UsageError

Features = np.ndarray | Tensor | str | Path
MAX_BATCH_VECTORS = 16_384  # feature vectors in one forward pass, padding included: bounds memory, not results
MIN_FILL = 0.8  # shortest over longest sequence of a batch: padding is computed and thrown away


class Predictor:
    """A detector with its configuration, labels and rate. `eventide.load(PATH)` makes one."""

    def __init__(
        self,
        model: StoredModel,
        *,
        device: str = "auto",
        amp: bool = False,
        operating_point: bool = False,
        source: str = "the model",
    ) -> None:
        self.config, self.labels, self.fps = model.config, model.labels, model.fps
        check_settings(self.config.test_cfg, self.labels, operating_point, source)
        architecture = build(self.config)
        name = describe_model(self.config)
        load_weights(architecture.detector, model.tensors, source=source, stored=name, wanted=name)
        place = pick_device(device)
        autocast, self.precision = mixed_precision(place, amp)
        detector = architecture.detector.to(place).eval().requires_grad_(False)
        self.inference = Inference(
            detector, architecture.decoder, self.config, self.labels, autocast, operating_point=operating_point
        )
        self.external = ExternalScores.of(self.config.test_cfg, operating_point)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        amp: bool = False,
        operating_point: bool = False,
        change: Callable[[Config], Config] | None = None,
    ) -> Predictor:
        """A predictor from a model file, a training checkpoint or a run's folder.

        `amp` computes in bfloat16, or float16 on GPUs without it; where there is neither, in float32 (`.precision`
        says which). `operating_point` reports only detections that reach the threshold of their label
        (`test_cfg.class_threshold`). `change` gives the configuration to use in place of the stored one.

        Raises:
            EventideError: there is nothing at `path`, it is damaged or something else, or it has no thresholds for the
                operating point.
        """
        model = load_stored(Path(path))
        if change is not None:
            model.config = change(model.config)
        return cls(model, device=device, amp=amp, operating_point=operating_point, source=str(path))

    @overload
    def predict(
        self, features: list[Any], fps: Any = None, duration: Any = None, *, ids: Any = None, batch_size: int = 8
    ) -> list[Detections]: ...

    @overload
    def predict(
        self, features: Features, fps: Any = None, duration: Any = None, *, ids: Any = None, batch_size: int = 8
    ) -> Detections: ...

    def predict(
        self,
        features: Features | list[Features],
        fps: float | Sequence[float | None] | None = None,
        duration: float | Sequence[float | None] | None = None,
        *,
        ids: str | Sequence[str] | None = None,
        batch_size: int = 8,
    ) -> Detections | list[Detections]:
        """Detections of one recording, or of each of a list.

        Args:
            features: (T, C) array or tensor, or the path of a feature file; or a list of these, of any lengths.
            fps: source frames per second, one number or one per recording. Default: the rate the model was trained at.
            duration: length in seconds, one number or one per recording; detections are cut there. Default: no cut.
            ids: recording ids; needed only to find class scores (`test_cfg.ext_score_file`).
            batch_size: most recordings per forward pass; changes speed and memory only.
        Raises:
            EventideError: wrong shape, NaN or Inf in the features, or no rate is known.
        """
        several = isinstance(features, list)
        items: list[Features] = features if isinstance(features, list) else [features]
        rates, durations = _one_each(fps, len(items), "fps"), _one_each(duration, len(items), "duration")
        names = [ids] if isinstance(ids, str) else list(ids or [f"recording {i}" for i in range(len(items))])
        if len(names) != len(items):
            raise UsageError(f"{len(names)} ids for {len(items)} recordings")
        samples = []
        for item, name, rate, length in zip(items, names, rates, durations, strict=True):
            rows = self._read(item, name if several else "features")
            samples.append(self.prepare(rows, name, rate, length))
        results: list[Detections | None] = [None] * len(items)
        for group in similar_lengths([len(sample.features) for sample in samples], batch_size):
            for index, found in zip(group, self.detect([samples[index] for index in group]), strict=True):
                results[index] = found
        found_all = [found for found in results if found is not None]
        return found_all if several else found_all[0]

    def prepare(self, rows: Tensor, name: str, fps: float | None, duration: float | None) -> Sample:
        """Stored features (T, C) as the model wants them: every n-th vector, or resized, with their timeline."""
        settings = self.config.dataset
        rate = fps or settings.default_fps or self.fps
        if rate is None:
            raise EventideError(
                f"{name}: the frame rate is not known, and the model has none; give fps (--fps, or in the annotations)"
            )
        return prepare_sample(rows, name, settings.model_copy(update={"default_fps": None}), float(rate), duration)

    def detect(self, samples: Sequence[Sample]) -> list[Detections]:
        """Detections of samples that `prepare` made, in one forward pass."""
        with memory_for(len(samples), max(len(sample.features) for sample in samples)):
            return self.detect_batch(collate(list(samples)))

    def detect_batch(self, batch: Batch) -> list[Detections]:
        """Detections of a batch, in one forward pass."""
        with memory_for(len(batch.ids), max(batch.lengths)):
            found = self.inference.detect(batch)
        if self.external is not None:
            return [self.external.fuse(name, detections) for name, detections in zip(batch.ids, found, strict=True)]
        return found

    def _read(self, features: Features, name: str) -> Tensor:
        """Features from wherever they are, (T, C) float32, checked."""
        if isinstance(features, str | os.PathLike):
            name = str(features)
            header = read_header(features)
            rows: Any = read_rows(features, 0, header.shape[0]) if len(header.shape) == 2 else np.zeros(header.shape)
        else:
            rows = features
        return checked_features(rows, sum_of(self.config.dataset.input_dim), name)


def prepare_sample(rows: Tensor, name: str, settings: DatasetConfig, fps: float, duration: float | None) -> Sample:
    """A sample without events from stored features (T, C), by the same rules as the data set's."""
    recording = Recording(name, "", fps, duration, np.zeros((0, 2)), np.zeros(0, np.int64))
    timeline = timeline_of(settings, recording, len(rows))
    if settings.force_upsampling:
        grid = resize(rows, settings.max_seq_len or len(rows))
    else:
        grid = rows[:: settings.downsample_rate]
    return Sample(name, grid, torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), timeline)


def checked_features(features: Any, channels: int, name: str) -> Tensor:
    """`features` as a float32 tensor (T, channels) on the CPU.

    Raises:
        EventideError: another shape, no vectors, not numbers, NaN or Inf.
    """
    try:
        if isinstance(features, Tensor):
            tensor = features.detach().cpu()
        else:  # no copy of an array that can be taken as it is
            array = np.asarray(features)
            native = array.astype(array.dtype.newbyteorder("="), copy=False)
            tensor = torch.from_numpy(np.require(native, requirements=("C", "W")))
        tensor = tensor.to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EventideError(
            f"{name}: features are an array (T, C) of numbers; got {type(features).__name__}: {error}"
        ) from None
    shape = tuple(tensor.shape)
    if tensor.ndim != 2:
        raise EventideError(f"{name}: features have shape {shape}; expected two dimensions (T, C) with C = {channels}")
    if shape[1] != channels:
        hint = "; it looks like (C, T): transpose it" if shape[0] == channels else ""
        raise EventideError(f"{name}: features have shape {shape}; the model takes (T, {channels}){hint}")
    if shape[0] == 0:
        raise EventideError(f"{name}: there are no feature vectors (shape {shape})")
    if not all(math.isfinite(end) for end in torch.aminmax(tensor)):  # in one pass; NaN is its own smallest and largest
        bad = (~torch.isfinite(tensor)).nonzero()
        vector, channel = (int(i) for i in bad[0])
        raise EventideError(
            f"{name}: {len(bad)} values are NaN or Inf, the first in feature vector {vector}, channel {channel}"
        )
    return tensor


def load_stored(path: Path) -> StoredModel:
    """The model in a model file, a training checkpoint or a run's folder (its best, else its newest checkpoint)."""
    if path.is_dir():
        folder = RunFolder(path)
        if folder.best.is_file():
            return load_model(folder.best)
        checkpoints = folder.checkpoints if folder.checkpoints.is_dir() else path
        found = newest_readable(checkpoints, lambda text: None)
        if found is None:
            raise EventideError(f"{path} is no run's folder: neither best.safetensors nor a checkpoint is in it")
        return stored_model(found[1], found[0])
    if not path.is_file():
        raise EventideError(f"there is no model at {path}; give best.safetensors, a checkpoint or a run's folder")
    if path.suffix == ".safetensors":
        return load_model(path)
    return stored_model(load_checkpoint(path), path)


def similar_lengths(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Groups of at most `batch_size` indices, longest first, whose sequences fit together with little padding."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[group[0]] if group else 0
        full = len(group) >= batch_size or (len(group) + 1) * longest > MAX_BATCH_VECTORS
        if group and (full or lengths[index] < MIN_FILL * longest):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _one_each(value: float | Sequence[float | None] | None, count: int, name: str) -> list[float | None]:
    """One value per recording, each positive or None."""
    if value is None or isinstance(value, int | float | np.integer | np.floating):
        values = [value] * count
    else:
        values = list(value)
    if len(values) != count:
        raise UsageError(f"{len(values)} values of {name} for {count} recordings")
    if any(item is not None and not 0 < item < float("inf") for item in values):
        raise UsageError(f"{name}: {value}: give a number above 0")
    return [None if item is None else float(item) for item in values]
