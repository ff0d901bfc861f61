"""A tiny generated data set for any configuration: what it holds, as a pure function of configuration and seed.

Every class has a direction of its own in feature space, which shows while an event of it lasts (a point event: for one
or two vectors around it), on top of white noise. So a model that trains at all learns it, and a wrong stride or frame
rate shows as an offset of every boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eventide.config import Config, DatasetConfig, sum_of
from eventide.config_labels import named_labels
from eventide.ops.timeline import grid_to_seconds
from eventide.types import UsageError

TRAINING, VALIDATION = 6, 3  # recordings of each kind, unless more are needed
EVENTS = 8  # per recording, unless its share of the classes is larger
VECTORS_PER_EVENT = 12  # of the model's grid, pauses included
FEWEST_VECTORS, MOST_VECTORS = 160, 1200  # of the model's grid, before a random share on top
FUSED_CLASSES = 5  # classes of proposals whose labels come from external scores; the configuration does not say
RATES = (30.0, 25.0, 29.97)  # frames per second where the configuration leaves them to the annotations
BUMP = (1.0, 2.0)  # vectors of the model's grid that show a point event, shortest and longest
NOISE = 0.5  # standard deviation; a class direction has 1 per channel
_DIRECTIONS, _ORDER, _SCORES = (2**32 - 1 - number for number in range(3))  # streams of random numbers, beyond indices


@dataclass(frozen=True)
class ToyPlan:
    """What a toy data set holds. `required[i]` are label ids that recording i must show; None: it has no events."""

    dataset: DatasetConfig
    subsets: tuple[str, ...]  # of every recording
    required: tuple[tuple[int, ...] | None, ...]
    free: tuple[int, ...]  # label ids from which further events are drawn; empty: from a recording's own
    num_labels: int
    seed: int
    names: tuple[str, ...] = ()  # labels that the configuration names

    @property
    def ids(self) -> list[str]:
        """Recording ids, in order."""
        return [f"toy_{index:03d}" for index in range(len(self.subsets))]

    @property
    def labels(self) -> list[str]:
        """Label per id, those first that the configuration names; their sorted order is that of the ids."""
        width = len(str(self.num_labels - 1))
        plain = (f"class_{label_id:0{width}d}" for label_id in range(self.num_labels))
        return sorted(list(dict.fromkeys((*self.names, *plain)))[: self.num_labels])


@dataclass(frozen=True)
class ToyRecording:
    """One generated recording; times in seconds."""

    features: np.ndarray  # (T, C) float16
    segments: np.ndarray  # (G, 2) float64, sorted by start; of a point event both are its time
    label_ids: np.ndarray  # (G,) int64
    duration: float
    fps: float


def plan_toy(config: Config, recordings: int | None = None, seed: int = 0) -> ToyPlan:
    """The data set that a resolved configuration asks for: its subsets, classes and their spread over recordings.

    Every class that the heads predict occurs in training. The last recording of three or more of a kind has no events.

    Raises:
        UsageError: `recordings` are too few for the subsets, or for one batch where the last one is left out.
    """
    training, validation = _subsets(config, recordings)
    fused = bool(config.test_cfg.ext_score_file) and config.dataset.num_classes == 1
    positive = len(training) - (len(training) >= 3)
    num_labels = min(FUSED_CLASSES, 2 * positive) if fused else config.dataset.num_classes
    excluded = set() if fused else set(config.train_cfg.head_empty_cls)
    shown = [label_id for label_id in range(num_labels) if label_id not in excluded]
    order = np.random.default_rng([seed, _ORDER]).permutation(shown).tolist()
    required: list[tuple[int, ...] | None] = [
        tuple(order[index::positive]) or (order[index % len(order)],) for index in range(positive)
    ]
    required += [None] * (len(training) - positive)
    for index in range(len(validation)):
        negative = len(validation) >= 3 and index == len(validation) - 1
        required.append(None if negative else (order[index % len(order)],))
    free = () if fused else tuple(order)  # a video classifier knows the classes of a recording, so it has few
    names = tuple(named_labels(config))
    return ToyPlan(config.dataset, (*training, *validation), tuple(required), free, num_labels, seed, names)


def _subsets(config: Config, recordings: int | None) -> tuple[list[str], list[str]]:
    """Subset of every training and every validation recording; a subset that is both counts as training."""
    training = _distinct(config.train_split)
    known = {name.lower() for name in training}
    validation = [name for name in _distinct(config.val_split) if name.lower() not in known]
    batch = config.loader.batch_size if config.loader.drop_last else 1
    fewest = max(len(training), batch)
    if recordings is None:
        trained, evaluated = max(TRAINING, fewest), max(VALIDATION, len(validation)) if validation else 0
    elif recordings < fewest + len(validation):
        reason = f" ({batch} make one batch, and loader.drop_last is true)" if batch > len(training) else ""
        raise UsageError(
            f"--recordings {recordings}: this configuration needs {fewest + len(validation)} or more, {fewest} to "
            f"train on{reason} and {len(validation)} to evaluate on"
        )
    else:
        evaluated = max(round(recordings / 3), len(validation)) if validation else 0
        trained = max(recordings - evaluated, fewest)
        evaluated = recordings - trained
    return _in_turn(training, trained), _in_turn(validation, evaluated)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that differ in more than letter case, in order."""
    return list({name.lower(): name for name in names}.values())


def _in_turn(names: Sequence[str], count: int) -> list[str]:
    return [names[index % len(names)] for index in range(count)]


def make_toy_recording(plan: ToyPlan, index: int) -> ToyRecording:
    """Recording `index`: a pure function of (plan, index)."""
    rng = np.random.default_rng([plan.seed, index])
    settings, required = plan.dataset, plan.required[index]
    label_ids = _draw_labels(rng, required, plan.free)
    rows, rows_per_vector = _length(rng, settings, len(label_ids))
    shown = _place_points if settings.events == "points" else _place
    positions = shown(rng, len(label_ids), rows, rows_per_vector)
    order = np.argsort(positions[:, 0], kind="stable")
    positions, label_ids = positions[order], label_ids[order]
    fps = settings.default_fps or RATES[index % len(RATES)]
    stride, frames = settings.feat_stride, settings.num_frames
    if stride <= 0:  # such files cover the whole duration, a vector stands for the middle of its step
        stride = frames = max(frames, 1.0)
    duration = ((rows - 1) * stride + frames) / fps
    window = max(1.0, frames / stride)  # rows that a vector averages over
    features = NOISE * rng.standard_normal((rows, sum_of(settings.input_dim)), dtype=np.float32)
    strength = rng.uniform(0.8, 1.2, len(label_ids))
    features += (_shares(positions, rows, window) * strength).astype(np.float32) @ class_directions(plan)[label_ids]
    if settings.events == "points":  # in the middle of what shows it
        positions = np.repeat(positions.mean(axis=1, keepdims=True), 2, axis=1)
    segments = np.round(grid_to_seconds(positions, fps, stride, frames), 3)
    return ToyRecording(features.astype(np.float16), segments, label_ids, round(duration, 3), fps)


def class_directions(plan: ToyPlan) -> np.ndarray:
    """(labels, C) float32: what each class looks like."""
    shape = plan.num_labels, sum_of(plan.dataset.input_dim)
    return np.random.default_rng([plan.seed, _DIRECTIONS]).standard_normal(shape, dtype=np.float32)


def external_scores(plan: ToyPlan, recordings: Sequence[ToyRecording]) -> list[list[float]]:
    """Class scores of every recording, as a good video classifier gives them: each row adds up to 1."""
    rng = np.random.default_rng([plan.seed, _SCORES])
    rows = []
    for recording in recordings:
        counts = np.bincount(recording.label_ids, minlength=plan.num_labels)
        scores = counts + 0.2 * rng.random(plan.num_labels)
        rows.append(np.round(scores / scores.sum(), 6).tolist())
    return rows


def _draw_labels(rng: np.random.Generator, required: tuple[int, ...] | None, free: tuple[int, ...]) -> np.ndarray:
    """Label ids of a recording's events, (G,) int64: those required, and others up to `EVENTS`."""
    if required is None:
        return np.zeros(0, dtype=np.int64)
    more = rng.choice(free or required, max(EVENTS - len(required), 0))
    return rng.permutation(np.concatenate([np.array(required, dtype=np.int64), more]))


def _length(rng: np.random.Generator, settings: DatasetConfig, events: int) -> tuple[int, float]:
    """Rows of the feature file, and how many of them make one vector of the model's grid."""
    share = rng.uniform(1.0, 1.5)
    if settings.force_upsampling:
        length = settings.max_seq_len or FEWEST_VECTORS
        rows = max(int(0.8 * share * min(length, MOST_VECTORS)), 4)
        return rows, max(1.0, rows / length)
    vectors = int(share * min(max(FEWEST_VECTORS, VECTORS_PER_EVENT * events), MOST_VECTORS))
    return vectors * settings.downsample_rate, float(settings.downsample_rate)


def _place(rng: np.random.Generator, events: int, rows: int, rows_per_vector: float) -> np.ndarray:
    """Starts and ends of events, (G, 2) in rows; they overlap only where there are too many for the length."""
    lanes = max(1, -(-VECTORS_PER_EVENT * events * int(np.ceil(rows_per_vector)) // rows))
    placed = [np.zeros((0, 2))]
    for lane in range(min(lanes, events)):
        count = len(range(lane, events, lanes))
        parts = np.empty(2 * count + 1)  # pause, event, pause, event, ..., pause
        parts[0::2] = 0.4 + rng.exponential(0.4, count + 1)
        parts[1::2] = np.exp(rng.uniform(0.0, np.log(6.0), count))
        edges = np.cumsum(parts) * (rows - 1) / parts.sum()
        placed.append(np.stack([edges[0:-1:2], edges[1::2]], axis=1))
    return np.concatenate(placed)


def _place_points(rng: np.random.Generator, events: int, rows: int, rows_per_vector: float) -> np.ndarray:
    """Starts and ends of what shows each point event, (G, 2) in rows; no two events are at one time."""
    pauses = 0.4 + rng.exponential(0.4, events + 1)
    times = (np.cumsum(pauses) * (rows - 1) / pauses.sum())[:-1]
    reach = 0.5 * rows_per_vector * rng.uniform(*BUMP, events)
    return np.stack([times - reach, times + reach], axis=1)


def _shares(positions: np.ndarray, rows: int, window: float) -> np.ndarray:
    """(rows, G): the share of each vector's window (rows long, centred on it) that an event of `positions` fills."""
    times = np.arange(rows)[:, None]
    first = np.maximum(positions[:, 0], times - window / 2)
    last = np.minimum(positions[:, 1], times + window / 2)
    return np.clip(last - first, 0, None) / window
