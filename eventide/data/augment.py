"""Random windows of training recordings: pure functions of a generator, which is a pure function of its place.

The windows are those of the published ActionFormer code (same distribution, other random numbers). A window is chosen
from the length of a recording alone, so that only its feature vectors need to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Tries to find a window that holds enough of an event before any window is taken.
MAX_TRIALS = 200

# Streams of random numbers that must never meet: the order of an epoch, the augmentation of one sample.
ORDER_STREAM, SAMPLE_STREAM = 0, 1


class Window(NamedTuple):
    """Feature vectors [start, stop) of a recording."""

    start: int
    stop: int


def generator_for(seed: int, stream: int, *place: int) -> np.random.Generator:
    """The generator of one place (epoch, sample index) of one stream: the same in every process, on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(stream, *place))))


def window_length(
    length: int, max_seq_len: int, crop_ratio: tuple[float, float] | None, rng: np.random.Generator
) -> int:
    """How many of `length` feature vectors a training sample keeps.

    A recording longer than `max_seq_len` is cut to that; a shorter one to a random share within `crop_ratio`, if given.
    """
    if length > max_seq_len:
        return max_seq_len
    if crop_ratio is None:
        return length
    shortest = max(round(crop_ratio[0] * length), 1)
    longest = max(min(round(crop_ratio[1] * length), length), shortest)
    return int(rng.integers(shortest, longest + 1))


def choose_window(
    length: int,
    size: int,
    segments: np.ndarray,
    *,
    trunc_thresh: float,
    offset: float,
    rng: np.random.Generator,
    max_trials: int = MAX_TRIALS,
) -> Window:
    """A random window of `size` of `length` feature vectors that keeps at least `trunc_thresh` of some event.

    `segments` (G, 2) are grid positions. `offset` is half the extent of a feature vector in grid steps: vectors reach
    that far beyond their position. After `max_trials` windows without an event the last one is taken; without
    events, the first.
    """

    def kept(starts: np.ndarray) -> np.ndarray:
        return kept_shares(segments, starts, size, offset) >= np.float32(trunc_thresh)

    return _choose(length, size, kept if len(segments) else None, rng, max_trials)


def choose_window_of_points(
    length: int, size: int, times: np.ndarray, *, rng: np.random.Generator, max_trials: int = MAX_TRIALS
) -> Window:
    """A random window of `size` of `length` feature vectors that holds some of the point events at `times` (G,), grid
    positions. Where there is none to hold, or none was found, as `choose_window`.
    """

    def kept(starts: np.ndarray) -> np.ndarray:
        return points_in_windows(times, starts, size, length)

    return _choose(length, size, kept if len(times) else None, rng, max_trials)


def _choose(
    length: int,
    size: int,
    kept: Callable[[np.ndarray], np.ndarray] | None,
    rng: np.random.Generator,
    max_trials: int,
) -> Window:
    """The first of random windows for which `kept`, (W,) starts to (W, G) bool, has an event; None: any window."""
    if size >= length:
        return Window(0, length)
    starts = rng.integers(0, length - size + 1, size=max_trials if kept else 1)
    chosen = starts[-1]
    if kept:
        good = kept(starts).any(axis=1)
        if good.any():
            chosen = starts[np.argmax(good)]
    return Window(int(chosen), int(chosen) + size)


def kept_shares(segments: np.ndarray, starts: np.ndarray, size: int, offset: float) -> np.ndarray:
    """Share of each segment (G, 2) inside each window of `size` vectors from `starts` (W,): (W, G) float32."""
    left, right = _clipped(segments, starts[:, None], size, offset)
    segments = segments.astype(np.float32, copy=False)
    inside = np.maximum(right - left, np.float32(0))
    return inside / np.abs(segments[:, 1] - segments[:, 0])


def cut_to_window(
    segments: np.ndarray, label_ids: np.ndarray, window: Window, *, trunc_thresh: float, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Events of which at least `trunc_thresh` is inside the window, clipped to it, on the window's own grid.

    `segments` (G, 2) float32 grid positions, `label_ids` (G,); the result has fewer rows.
    """
    starts = np.array([window.start])
    size = window.stop - window.start
    keep = kept_shares(segments, starts, size, offset)[0] >= np.float32(trunc_thresh)
    left, right = _clipped(segments, starts[0], size, offset)
    clipped = np.stack((left[keep], right[keep]), axis=1) - np.float32(window.start)
    return clipped.astype(np.float32, copy=False), label_ids[keep]


def points_in_windows(times: np.ndarray, starts: np.ndarray, size: int, length: int) -> np.ndarray:
    """Whether the feature vector nearest to each point event is inside each window of `size` vectors: (W, G) bool.

    `times` (G,) are grid positions, `starts` (W,). An event beyond the first or last of the `length` vectors of the
    recording belongs to that one; one half-way between two belongs to both.
    """
    inside = np.clip(times, 0, length - 1)
    first = np.asarray(starts)[:, None]
    return (inside >= first - 0.5) & (inside <= first + size - 0.5)


def cut_points_to_window(
    ranges: np.ndarray, label_ids: np.ndarray, window: Window, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The point events in a window of a recording of `length` vectors, on the window's own grid, float32.

    `ranges` (G, 2) are grid positions around each event's time, never clipped, so that their middle stays the time.
    """
    starts, size = np.array([window.start]), window.stop - window.start
    keep = points_in_windows(ranges.mean(axis=1), starts, size, length)[0]
    return (ranges[keep] - window.start).astype(np.float32), label_ids[keep]


def _clipped(segments: np.ndarray, starts: np.ndarray, size: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of segments (G, 2), clipped to windows that reach `offset` beyond their first and last vector."""
    segments = segments.astype(np.float32, copy=False)
    first = np.asarray(starts, dtype=np.float32) - np.float32(offset)
    last = (np.asarray(starts) + size).astype(np.float32) + np.float32(offset)
    return np.maximum(first, segments[:, 0]), np.minimum(last, segments[:, 1])


def clip_to_grid(
    segments: np.ndarray, label_ids: np.ndarray, length: int, *, trunc_thresh: float, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """Events of which at least `trunc_thresh` lies before the end of a grid of `length` vectors, cut off there.

    For recordings whose features end early (ActivityNet has some). Arrays as in `cut_to_window`.
    """
    end = length + offset
    starts, ends = segments[:, 0].astype(np.float64), segments[:, 1].astype(np.float64)
    share = (np.minimum(ends, end) - starts) / (ends - starts)
    keep = (starts < end) & (share >= trunc_thresh)
    return np.minimum(segments[keep], np.float32(end)), label_ids[keep]
