"""Random windows of training recordings: pure functions of a generator, which is a pure function of its place.

The windows are those of the published ActionFormer code (same distribution, other random numbers). A window is chosen
from the length of a recording alone, so that only its feature vectors need to be read.
"""

from __future__ import annotations

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
    if size >= length:
        return Window(0, length)
    starts = rng.integers(0, length - size + 1, size=max_trials if len(segments) else 1)
    chosen = starts[-1]
    if len(segments):
        kept = (kept_shares(segments, starts, size, offset) >= np.float32(trunc_thresh)).any(axis=1)
        if kept.any():
            chosen = starts[np.argmax(kept)]
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
