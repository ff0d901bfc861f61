"""Generated recordings whose events are known: for the demo, examples and tests. The same seed gives the same files.

An event is a row of phases, each with its own direction in feature space. Classes share phases and differ in their
order and length, so that a single feature vector does not tell the class; lone phases that belong to no event, slow
noise and an offset of each recording are in the way. Signals are made frame by frame and averaged over windows, as
features are that were extracted from a video, so that boundaries lie anywhere between grid positions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eventide.ops.files import write_file, write_text

FPS = 10.0  # frames per second
FEAT_STRIDE = 5  # frames between two feature vectors
NUM_FRAMES = 10  # frames that one feature vector covers
CHANNELS = 32  # a power of two, for `_directions`


@dataclass(frozen=True)
class EventClass:
    """How the events of one class look."""

    label: str
    phases: tuple[int, ...]  # directions in feature space, one after another in equal parts
    median_seconds: float
    spread: float  # standard deviation of the logarithm of the duration


CLASSES = (  # sorted by label: label_id is the index
    EventClass("approach", (0, 1), 8.0, 0.35),
    EventClass("carry", (3, 4, 3), 14.0, 0.35),
    EventClass("knock", (2,), 2.5, 0.25),
    EventClass("retreat", (1, 0), 8.0, 0.35),
    EventClass("wait", (4,), 20.0, 0.45),
)
DISTRACTOR_PHASES = (0, 1, 3, 5)  # phases that also occur alone, 1 to 3 s long, without being an event
NUM_PHASES = 6


@dataclass(frozen=True)
class SyntheticSettings:
    """How a data set is made. Shares are between 0 and 1, times in seconds."""

    recordings: int = 60
    validation_share: float = 1 / 3
    negative_share: float = 0.1  # recordings without any event, spread evenly
    min_duration: float = 60.0
    max_duration: float = 240.0
    mean_gap: float = 7.0
    overlap_share: float = 0.15  # events that begin before the one before them has ended
    distractors_per_minute: float = 2.0
    noise: float = 0.55  # standard deviation of the white noise of a frame; the slow noise has half of it
    seed: int = 7


@dataclass(frozen=True)
class SyntheticRecording:
    """One generated recording."""

    features: np.ndarray  # (T, CHANNELS) float32
    segments: np.ndarray  # (G, 2) float64, start and end in seconds, sorted by start
    label_ids: np.ndarray  # (G,) int64
    duration: float  # seconds


def make_recording(index: int, settings: SyntheticSettings) -> SyntheticRecording:
    """Recording `index` of a data set: a pure function of (settings, index)."""
    rng = np.random.default_rng([settings.seed, index])
    num_frames = int(rng.uniform(settings.min_duration, settings.max_duration) * FPS)
    duration = num_frames / FPS
    negative = int((index + 1) * settings.negative_share) > int(index * settings.negative_share)
    segments, label_ids = _place_events(rng, duration, settings, negative)
    frames = _signal(rng, num_frames, segments, label_ids, settings)
    starts = np.arange(0, num_frames - NUM_FRAMES + 1, FEAT_STRIDE)
    sums = np.concatenate([np.zeros((1, CHANNELS)), frames.cumsum(axis=0)])
    features = (sums[starts + NUM_FRAMES] - sums[starts]) / NUM_FRAMES
    return SyntheticRecording(features.astype(np.float32), segments, label_ids, duration)


def make_dataset(folder: str | Path, settings: SyntheticSettings | None = None) -> Path:
    """Write `folder/features/<id>.npy` and `folder/annotations.json`; returns the path of the latter.

    Files that are there already are replaced, each in one step.
    """
    settings = settings or SyntheticSettings()
    folder = Path(folder)
    num_validation = round(settings.recordings * settings.validation_share)
    database: dict[str, Any] = {}
    for index in range(settings.recordings):
        recording = make_recording(index, settings)
        name = f"recording_{index:03d}"
        subset = "validation" if index >= settings.recordings - num_validation else "training"
        features = recording.features
        write_file(folder / "features" / f"{name}.npy", partial(np.save, arr=features, allow_pickle=False))
        database[name] = {
            "subset": subset,
            "duration": recording.duration,
            "fps": FPS,
            "annotations": [
                {"segment": [start, end], "label": CLASSES[label_id].label, "label_id": label_id}
                for (start, end), label_id in zip(
                    recording.segments.tolist(), recording.label_ids.tolist(), strict=True
                )
            ],
        }
    path = folder / "annotations.json"
    write_text(path, json.dumps({"version": "eventide-synthetic-1", "database": database}, indent=1))
    return path


def _place_events(
    rng: np.random.Generator, duration: float, settings: SyntheticSettings, negative: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Segments (G, 2) in seconds and label ids (G,); two events of one class never touch."""
    placed: list[tuple[float, float, int]] = []
    cursor = rng.exponential(settings.mean_gap)
    while not negative:
        label_id = int(rng.integers(len(CLASSES)))
        kind = CLASSES[label_id]
        length = kind.median_seconds * float(np.exp(np.clip(rng.normal(), -2.5, 2.5) * kind.spread))
        start = cursor
        if placed and rng.random() < settings.overlap_share:
            before_start, before_end, before_label = placed[-1]
            if before_label != label_id:
                start = before_end - rng.uniform(0.1, 0.4) * (before_end - before_start)
        end = start + length
        if end > duration:
            break
        if not any(other == label_id and start <= b and a <= end for a, b, other in placed):
            placed.append((round(start, 3), round(end, 3), label_id))
        cursor = max(b for _, b, _ in placed) + rng.exponential(settings.mean_gap) + 0.5
    placed.sort()
    segments = np.array([event[:2] for event in placed], dtype=np.float64).reshape(-1, 2)
    return segments, np.array([event[2] for event in placed], dtype=np.int64)


def _signal(
    rng: np.random.Generator,
    num_frames: int,
    segments: np.ndarray,
    label_ids: np.ndarray,
    settings: SyntheticSettings,
) -> np.ndarray:
    """Frames (num_frames, CHANNELS) float64: events, lone phases, slow and white noise, an offset."""
    directions = _directions()
    frames = np.zeros((num_frames, CHANNELS))
    times = (np.arange(num_frames) + 0.5) / FPS
    for (start, end), label_id in zip(segments, label_ids, strict=True):
        phases = CLASSES[label_id].phases
        edges = np.linspace(start, end, len(phases) + 1)
        strength = rng.uniform(0.7, 1.3)
        for phase, left, right in zip(phases, edges[:-1], edges[1:], strict=True):
            frames += strength * _pulse(times, left, right)[:, None] * directions[phase]
    for _ in range(rng.poisson(settings.distractors_per_minute * num_frames / FPS / 60)):
        start = rng.uniform(0, times[-1])
        phase = DISTRACTOR_PHASES[int(rng.integers(len(DISTRACTOR_PHASES)))]
        pulse = _pulse(times, start, start + rng.uniform(1.0, 3.0))
        frames += rng.uniform(0.7, 1.3) * pulse[:, None] * directions[phase]
    frames += 0.2 * rng.normal(size=CHANNELS)
    frames += 0.5 * settings.noise * _slow_noise(rng, num_frames)
    frames += settings.noise * rng.normal(size=frames.shape)
    return frames


def _directions() -> np.ndarray:
    """(NUM_PHASES, CHANNELS): directions of length 2 at right angles to one another, rows of a Hadamard matrix."""
    rows, columns = np.arange(1, NUM_PHASES + 1)[:, None], np.arange(CHANNELS)[None, :]
    return np.where(np.bitwise_count(rows & columns) % 2, -2.0, 2.0) / np.sqrt(CHANNELS)


def _pulse(times: np.ndarray, start: float, end: float, ramp: float = 0.25) -> np.ndarray:
    """1 within [start, end], 0 outside, with ramps of `ramp` seconds centred on both boundaries."""
    return np.clip((times - start) / ramp + 0.5, 0, 1) * np.clip((end - times) / ramp + 0.5, 0, 1)


def _slow_noise(rng: np.random.Generator, num_frames: int, memory: float = 0.95) -> np.ndarray:
    """(num_frames, CHANNELS): first-order autoregressive noise with standard deviation 1."""
    steps = rng.normal(size=(num_frames, CHANNELS)) * np.sqrt(1 - memory**2)
    steps[0] = rng.normal(size=CHANNELS)
    for frame in range(1, num_frames):
        steps[frame] += memory * steps[frame - 1]
    return steps
