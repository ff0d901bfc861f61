"""The feature arrays of a data set, by recording id: a folder, an HDF5 file or shards, or several of them joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eventide.data.formats import Header, member_names, read_header, read_rows
from eventide.data.shards import ShardSet, is_shard_set
from eventide.types import EventideError, UsageError

# Feature extractors disagree by a vector or two about the end of a recording.
MAX_LENGTH_DIFFERENCE = 2
FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")
HDF5_ENDINGS = (".h5", ".hdf5")


class Source(NamedTuple):
    """Where the features of one recording lie: a file, and the array's name in it where it holds many recordings."""

    path: str
    member: str | None

    def __str__(self) -> str:
        return self.path if self.member is None else f"{self.path}[{self.member}]"


class FeatureStore:
    """Reads the features (T, C) of recordings from `<folder>/<prefix><id><ext>`.

    `folders` is a folder, an HDF5 file with one data set `<prefix><id>` per recording, a folder or URL of shards (made
    by `eventide shard`, which know recordings by their ids alone), or a list of them, which are joined along C.
    `input_dim` is C, or a list whose sum is C. Lengths are read once and remembered.
    """

    def __init__(
        self, folders: str | Sequence[str], prefix: str = "", ext: str = ".npy", input_dim: int | Sequence[int] = 0
    ) -> None:
        self.folders = [str(folders)] if isinstance(folders, str | Path) else [str(folder) for folder in folders]
        self.prefix = prefix or ""
        self.ext = ext if not ext or ext.startswith(".") else f".{ext}"
        dims = [input_dim] if isinstance(input_dim, int) else list(input_dim)
        self.channels = sum(dims)
        self._folder_dims: list[int | None] = (
            list(dims) if len(dims) == len(self.folders) else [None] * len(self.folders)
        )
        self._lengths: dict[str, int] = {}
        self._members: dict[str, frozenset[str]] = {}  # of each HDF5 file of many recordings
        if not self.folders or not all(self.folders):
            raise UsageError("dataset.feat_folder: no feature folder is given")
        self._shards: dict[str, ShardSet] = {}
        for index, folder in enumerate(self.folders):
            if is_shard_set(folder):
                found = ShardSet(folder)
                self.folders[index] = found.name
                self._shards[found.name] = found
            elif not os.path.isdir(folder) and not (os.path.isfile(folder) and _is_hdf5(folder)):
                kind = "is neither a folder nor an HDF5 file" if os.path.exists(folder) else "does not exist"
                raise UsageError(f"dataset.feat_folder: {folder} {kind}")

    def sources(self, recording_id: str) -> list[Source]:
        """The files of a recording, one per folder, whether they exist or not."""
        # An id is a file name, never a path: it must not lead out of the folder.
        if not recording_id or any(bad in recording_id for bad in "/\\\0") or recording_id in (".", ".."):
            raise EventideError(f"recording {recording_id!r}: an id that is no plain file name cannot have features")
        return [self._source(folder, recording_id) for folder in self.folders]

    def _source(self, folder: str, recording_id: str) -> Source:
        if folder in self._shards:
            return Source(folder, recording_id)
        name = self.prefix + recording_id
        return Source(folder, name) if os.path.isfile(folder) else Source(os.path.join(folder, name + self.ext), None)

    def ids(self) -> list[str]:
        """Recordings that have features, sorted: those of the first folder. `UsageError` where it is an HDF5 file."""
        first = self.folders[0]
        if first in self._shards:
            return self._shards[first].names()
        if os.path.isfile(first):
            raise UsageError(f"{first}: the recordings in an HDF5 file are not listed; name them in annotations")
        names = sorted(entry.name for entry in os.scandir(first) if entry.is_file())
        fitting = [name for name in names if name.startswith(self.prefix) and name.endswith(self.ext)]
        ids = [name.removeprefix(self.prefix).removesuffix(self.ext) for name in fitting]
        return [name for name in ids if name]

    def problems(self) -> list[str]:
        """What is wrong with whole folders: shards that are missing or cut off."""
        return [f"{name}/{problem}" for name, shards in self._shards.items() for problem in shards.problems()]

    def header(self, source: Source) -> Header:
        """Shape and number type of one source of a recording, as stored."""
        if source.path in self._shards and source.member is not None:
            return self._shards[source.path].header(source.member)
        return read_header(*source)

    def rows(self, source: Source, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Rows start, start + step, ... before `stop` of one source of a recording, as a new float32 array (T, C)."""
        if source.path in self._shards and source.member is not None:
            return self._shards[source.path].rows(source.member, start, stop, step)
        return read_rows(source.path, start, stop, step, source.member)

    def missing(self, recording_id: str) -> list[Source]:
        """The files of a recording that do not exist."""
        return [source for source in self.sources(recording_id) if not self._source_exists(source)]

    def exists(self, recording_id: str) -> bool:
        """Whether the features of a recording are there, in every folder."""
        return not self.missing(recording_id)

    def _source_exists(self, source: Source) -> bool:
        if source.member is None:
            return os.path.isfile(source.path)
        if source.path in self._shards:
            return source.member in self._shards[source.path]
        if source.path not in self._members:
            self._members[source.path] = member_names(source.path)
        return source.member in self._members[source.path]

    def length(self, recording_id: str) -> int:
        """Number of feature vectors of a recording, from the headers of its files, which are checked."""
        if recording_id not in self._lengths:
            sources = self.sources(recording_id)
            headers = [self.header(source) for source in sources]
            problems = self.header_problems(sources, headers)
            if problems:
                raise EventideError("; ".join(problems))
            self._lengths[recording_id] = min(header.shape[0] for header in headers)
        return self._lengths[recording_id]

    def header_problems(self, sources: Sequence[Source], headers: Sequence[Header]) -> list[str]:
        """Everything wrong with the shapes and number types of one recording's files."""
        problems = []
        for source, header, dim in zip(sources, headers, self._folder_dims, strict=True):
            problem = _array_problem(header, dim or (self.channels if len(sources) == 1 else None))
            if problem:
                problems.append(f"{source}: {problem}")
        if problems:
            return problems
        channels = sum(header.shape[1] for header in headers)
        if self.channels and channels != self.channels:
            parts = " + ".join(str(header.shape[1]) for header in headers)
            names = ", ".join(map(str, sources))
            problems.append(f"{names}: {parts} = {channels} channels, but dataset.input_dim is {self.channels}")
        lengths = [header.shape[0] for header in headers]
        if max(lengths) - min(lengths) > MAX_LENGTH_DIFFERENCE:
            parts = ", ".join(f"{source} has {length}" for source, length in zip(sources, lengths, strict=True))
            problems.append(
                f"numbers of feature vectors differ by more than {MAX_LENGTH_DIFFERENCE}: {parts}; "
                "the folders do not belong to the same recordings or strides"
            )
        return problems

    def read(self, recording_id: str, start: int | None = None, stop: int | None = None, step: int = 1) -> np.ndarray:
        """Rows start, start + step, ... before `stop` of a recording, (T, C) float32, a copy of its own.

        Only these rows are read from disk where the format allows it. NaN and Inf are an `EventideError`.
        """
        length = self.length(recording_id)
        first, last, step = slice(start, stop, step).indices(length)
        last = max(first, last)
        parts = []
        for source in self.sources(recording_id):
            rows = self.rows(source, first, last, step)
            if not np.isfinite(rows).all():
                raise EventideError(f"{source}: {non_finite_message(rows, first, step)}")
            parts.append(rows)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def state(self, source: Source) -> str:
        """A text that changes when what is in a source is replaced: size and time of a file, origin of shards."""
        if source.path in self._shards:
            return self._shards[source.path].index.origin
        found = os.stat(source.path)
        return f"{found.st_size} {found.st_mtime_ns}"

    def missing_hint(self, recording_id: str) -> str:
        """What might be meant when a recording's file is missing; empty when nothing similar is there."""
        for source in self.missing(recording_id):
            if source.path in self._shards:
                return "the shards were made without it: make them again (eventide shard)"
            if source.member is not None or not os.path.isdir(os.path.dirname(source.path)):
                continue
            wanted = os.path.basename(source.path)
            for found in sorted(os.listdir(os.path.dirname(source.path))):
                stem, ext = os.path.splitext(found)
                if stem == self.prefix + recording_id and ext != self.ext:
                    return f"{found} is there: set dataset.file_ext to {ext}"
                if stem.endswith(recording_id) and ext == self.ext and found != wanted:
                    return f"{found} is there: set dataset.file_prefix to {stem.removesuffix(recording_id)!r}"
        return ""


def non_finite_message(rows: np.ndarray, start: int = 0, step: int = 1) -> str:
    """Where the first NaN or Inf of an array is, and how many there are."""
    bad = ~np.isfinite(rows)
    row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
    place = f"feature vector {start + int(row) * step}, channel {column}"
    return f"{int(bad.sum())} values are NaN or Inf, the first in {place}"


def _is_hdf5(path: str) -> bool:
    return path.lower().endswith(HDF5_ENDINGS)


def _array_problem(header: Header, channels: int | None) -> str:
    """What is wrong with one array (T, C); empty when nothing is."""
    shape = header.shape
    if header.dtype not in FLOAT_TYPES:
        return f"numbers of type {header.dtype}; expected float16 or float32"
    if len(shape) != 2:
        return f"shape {_shape(shape)}; expected two dimensions (T, C), feature vectors by channels"
    if shape[0] == 0 or shape[1] == 0:
        return f"shape {_shape(shape)}: there are no feature vectors"
    if channels and shape[1] != channels:
        if shape[0] == channels:
            return f"shape {_shape(shape)} looks like (C, T); expected (T, C) with C = {channels}: transpose it"
        return f"shape {_shape(shape)} has {shape[1]} channels, but dataset.input_dim is {channels}"
    return ""


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
