"""The index of a set of feature shards: which shard holds a recording, where in it, and of which shape.

A shard is a plain tar file of `.npy` members. The index lies beside the shards as `shards.json`; with it, any rows of
any recording are one read of a range of bytes, and lengths are known without opening anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eventide.ops.json_reading import parse_json
from eventide.types import EventideError

INDEX_NAME = "shards.json"
FORMAT = "eventide feature shards"
VERSION = 1
DTYPES = ("float16", "float32")  # stored little-endian
_AGAIN = "make the shards again (eventide shard)"


class Entry(NamedTuple):
    """Where the array (rows, channels) of one recording lies: `offset` bytes into a shard, in C order."""

    shard: int
    offset: int
    rows: int
    channels: int
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one feature vector."""
        return self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """N recordings in S shards. Arrays, so that processes that were forked share them without a copy.

    `origin` identifies what the shards were made from and how: equal ones hold the same features.
    """

    origin: str
    shards: tuple[str, ...]  # S file names
    sizes: np.ndarray  # (S,) int64, bytes of each shard
    ids: np.ndarray  # (N,) bytes, recording ids in UTF-8, rising
    shard: np.ndarray  # (N,) int64, which shard
    offset: np.ndarray  # (N,) int64, bytes before the first vector
    rows: np.ndarray  # (N,) int64
    channels: np.ndarray  # (N,) int64
    dtype: np.ndarray  # (N,) int64, position in DTYPES

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls, origin: str, shards: Sequence[tuple[str, int]], ids: Sequence[str], rows: Sequence[Entry]
    ) -> ShardIndex:
        """The index of shards (name, bytes), and of recordings whose `ids` rise in UTF-8."""
        columns = np.array([(*entry[:4], DTYPES.index(entry.dtype)) for entry in rows], dtype=np.int64).reshape(-1, 5).T
        return cls(
            origin,
            tuple(name for name, _ in shards),
            np.array([size for _, size in shards], dtype=np.int64),
            np.array([name.encode("utf-8") for name in ids], dtype=np.bytes_),
            *(np.ascontiguousarray(column) for column in columns),
        )

    def find(self, recording_id: str) -> Entry | None:
        """Where a recording lies; None where the shards do not hold it."""
        key = recording_id.encode("utf-8", "surrogatepass")
        if not key or len(key) > self.ids.dtype.itemsize:
            return None
        at = int(np.searchsorted(self.ids, np.array(key, dtype=self.ids.dtype)))
        if at == len(self.ids) or self.ids[at] != key:
            return None
        shard, offset, rows, channels, dtype = (
            int(column[at]) for column in (self.shard, self.offset, self.rows, self.channels, self.dtype)
        )
        return Entry(shard, offset, rows, channels, DTYPES[dtype])

    def names(self) -> list[str]:
        """All recording ids, sorted."""
        return [name.decode("utf-8") for name in self.ids.tolist()]

    def to_json(self) -> bytes:
        """The index file. A column that is the same for all recordings is written once."""
        recordings = {
            "id": self.names(),
            "shard": self.shard.tolist(),
            "offset": self.offset.tolist(),
            "rows": self.rows.tolist(),
            "channels": _once(self.channels.tolist()),
            "dtype": _once([DTYPES[index] for index in self.dtype.tolist()]),
        }
        shards = {"name": list(self.shards), "bytes": self.sizes.tolist()}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "origin": self.origin,
            "shards": shards,
            "recordings": recordings,
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"


def parse_index(data: bytes, name: str) -> ShardIndex:
    """The index of the bytes of an index file; `name` begins every message.

    Raises:
        EventideError: it is no index, of another version, or contradicts itself.
    """
    content = parse_json(data, f"{name}: the index of shards")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EventideError(f"{name}: is no index of feature shards; {_AGAIN}")
    if content.get("version") != VERSION:
        raise EventideError(
            f"{name}: an index of version {content.get('version')}, but this Eventide reads version {VERSION}; "
            f"use the Eventide that made it, or {_AGAIN}"
        )
    try:
        index = _read(content)
        problem = _problem(index)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise EventideError(f"{name}: the index is damaged ({' '.join(problem.split())[:200]}); {_AGAIN}")
    return index


def _read(content: dict[str, Any]) -> ShardIndex:
    shards, recordings = content["shards"], content["recordings"]
    ids = recordings["id"]
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise ValueError("recordings.id is no list of texts")
    if not isinstance(shards["name"], list) or not all(isinstance(name, str) for name in shards["name"]):
        raise ValueError("shards.name is no list of texts")
    kinds = recordings["dtype"]
    kinds = [DTYPES.index(kind) for kind in kinds] if isinstance(kinds, list) else DTYPES.index(kinds)
    columns = [recordings["shard"], recordings["offset"], recordings["rows"], recordings["channels"], kinds]
    return ShardIndex(
        str(content.get("origin")),
        tuple(shards["name"]),
        _numbers(shards["bytes"], len(shards["name"])),
        np.array([name.encode("utf-8") for name in ids], dtype=np.bytes_),
        *(_numbers(column, len(ids)) for column in columns),
    )


def _numbers(column: Any, count: int) -> np.ndarray:
    """(count,) int64 from a list, or from one number for all."""
    values = np.array(column if isinstance(column, list) else [column] * count)
    if (count and values.dtype != np.int64) or values.shape != (count,):
        raise ValueError(f"a column of {values.shape} {values.dtype}, expected {count} whole numbers")
    return values.astype(np.int64)


def _problem(index: ShardIndex) -> str:
    """What is impossible about an index; empty when nothing is."""
    bad = [name for name in index.shards if not name or name.startswith(".") or any(c in name for c in "/\\\0:")]
    if bad:
        return f"a shard is named {bad[0]!r}"
    if len(set(index.shards)) != len(index.shards):
        return "two shards have one name"
    if len(index) and not (index.ids[:-1] < index.ids[1:]).all():
        return "the recordings are not sorted"
    if len(index) and (index.shard.min() < 0 or index.shard.max() >= len(index.shards)):
        return "a recording lies in a shard that is not listed"
    if len(index) and min(index.offset.min(), index.rows.min(), index.channels.min()) < 0:
        return "a negative number"
    item_bytes = np.array([np.dtype(name).itemsize for name in DTYPES])[index.dtype]
    # As float: a product of wrong numbers may be beyond int64.
    ends = index.offset + index.rows.astype(np.float64) * index.channels * item_bytes
    if (ends > index.sizes[index.shard]).any():
        return "a recording ends after the end of its shard"
    return ""


def _once(values: list[Any]) -> Any:
    return values[0] if values and values.count(values[0]) == len(values) else values
