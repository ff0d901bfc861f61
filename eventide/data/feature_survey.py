"""What feature files say about themselves: format, channels, and how many frames lie between two vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eventide.data.formats import read_header
from eventide.data.shards import ShardSet, is_shard_set
from eventide.types import EventideError, Recording, UsageError

ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".pt", ".safetensors")
MOST_FILES = 64  # headers read to find the stride
WHOLE_WITHIN = 0.02  # a stride this close to a whole number is that number
UNLIKE = 1.1  # recordings whose durations differ by this factor have files of different lengths, unless resized


@dataclass(frozen=True)
class FeatureFacts:
    """Feature files of one data set. `feat_stride` counts frames, -1: all files have `vectors`, whatever they cover."""

    folder: str
    prefix: str
    ending: str
    channels: int
    files: int  # headers that were read
    first: str  # the file that channels and ending come from
    feat_stride: float | None  # None: the annotations have no durations or rates to compare with
    measured: float | None  # the stride before it was made a whole number
    num_frames: float | None  # frames that one vector covers, None where the ends of the recordings do not tell
    vectors: int  # of the longest file that was read


def survey_features(folder: Path, recordings: Sequence[Recording], default_fps: float | None = None) -> FeatureFacts:
    """Look at the headers of up to `MOST_FILES` feature files of `recordings` in `folder`, which may be one of shards.

    Raises:
        UsageError: there is no such folder.
        EventideError: no recording has a file there, a file cannot be read, or is no array (T, C).
    """
    shards = ShardSet(str(folder)) if is_shard_set(str(folder)) else None
    if not folder.is_dir():
        raise UsageError(f"--features {folder}: {'is no folder' if folder.exists() else 'does not exist'}")
    names = sorted(os.listdir(folder)) if shards is None else [f"{name}.npy" for name in shards.names()]
    prefix, ending = _pattern(folder, names, recordings)
    known = set(names)
    with_file = [recording for recording in recordings if f"{prefix}{recording.id}{ending}" in known]
    picked = [with_file[int(i)] for i in np.unique(np.linspace(0, len(with_file) - 1, MOST_FILES).astype(int))]
    paths = [folder / f"{prefix}{recording.id}{ending}" for recording in picked]
    if shards is None:
        headers = [read_header(path) for path in paths]
    else:
        headers = [shards.header(recording.id) for recording in picked]
    for path, header in zip(paths, headers, strict=True):
        if len(header.shape) != 2 or 0 in header.shape:
            raise EventideError(f"{path}: shape {header.shape}; expected an array (T, C), feature vectors by channels")
        if header.shape[1] != headers[0].shape[1]:
            raise EventideError(f"{path}: {header.shape[1]} channels, but {paths[0]} has {headers[0].shape[1]}")
    rows = np.array([header.shape[0] for header in headers], dtype=np.float64)
    frames = _frames(picked, default_fps)
    stride, measured = _stride(frames, rows)
    return FeatureFacts(
        str(folder),
        prefix,
        ending,
        headers[0].shape[1],
        len(paths),
        paths[0].name,
        stride,
        measured,
        _num_frames(frames, rows, stride),
        int(rows.max()),
    )


def _pattern(folder: Path, names: Sequence[str], recordings: Sequence[Recording]) -> tuple[str, str]:
    """Text before the recording id and ending of the file names; the first recording with a file decides."""
    files = [name for name in names if name.lower().endswith(ENDINGS)]
    stems = {os.path.splitext(name)[0]: os.path.splitext(name)[1] for name in files}
    for recording in recordings:
        if recording.id in stems:
            return "", stems[recording.id]
    ids = {recording.id for recording in recordings}
    for stem, ending in stems.items():
        for start in range(1, len(stem)):
            if stem[start:] in ids:
                return stem[:start], ending
    example = f"such as {files[0]}" if files else f"with the ending {', '.join(ENDINGS)}"
    has = f"{len(files)} file(s) {example}, none of them" if files else f"no file {example}, so none"
    raise EventideError(f"--features {folder}: {has} for a training recording such as {recordings[0].id!r}")


def _frames(recordings: Sequence[Recording], default_fps: float | None) -> np.ndarray:
    """(R,) float64: source frames of each recording, NaN where its duration or rate is unknown."""
    rates = [default_fps or recording.fps for recording in recordings]
    return np.array(
        [
            np.nan if recording.duration is None or rate is None else recording.duration * rate
            for recording, rate in zip(recordings, rates, strict=True)
        ]
    )


def _stride(frames: np.ndarray, rows: np.ndarray) -> tuple[float | None, float | None]:
    """Frames from one vector to the next, whole where it nearly is, and as measured.

    With recordings of different length it is the slope of frames over vectors, which does not depend on what happens
    at the ends; else their ratio.
    """
    usable = np.isfinite(frames)
    frames, rows = frames[usable], rows[usable]
    if not len(frames):
        return None, None
    if len(frames) >= 3 and rows.min() == rows.max() and frames.max() > UNLIKE * frames.min():
        return -1.0, None
    if len(frames) >= 3 and rows.max() >= 1.5 * rows.min():
        measured = float(np.polyfit(rows, frames, 1)[0])
    else:
        measured = float(frames.sum() / rows.sum())
    if measured <= 0:
        return None, None
    whole = round(measured)
    if whole and abs(measured - whole) <= WHOLE_WITHIN * whole:
        return float(whole), measured
    return float(f"{measured:.4g}"), measured


def _num_frames(frames: np.ndarray, rows: np.ndarray, stride: float | None) -> float | None:
    """Frames that one vector covers, a multiple of the stride, from what is left after the last step.

    A recording of n frames has 1 + (n - num_frames) // stride vectors. None where the recordings do not agree on it, or
    have more vectors than that: an extractor that pads their ends.
    """
    usable = np.isfinite(frames)
    if stride is None or stride <= 0 or usable.sum() < 3:
        return None
    left = frames[usable] - stride * (rows[usable] - 1)  # num_frames, and less than a stride on top
    if left.min() < 0.5 * stride or left.max() - left.min() > 1.1 * stride:
        return None
    return max(1.0, round((float(left.mean()) - stride / 2) / stride)) * stride
