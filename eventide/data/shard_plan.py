"""Which recordings go into which shard, and every byte around them, before anything is written.

So the index of a set of shards is known beforehand, and a shard that has its planned size is finished.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eventide.data.shard_index import Entry, ShardIndex

MEMBER_ENDING = ".npy"
BLOCK = tarfile.BLOCKSIZE  # every part of a tar file is padded to a multiple of this
END = bytes(2 * BLOCK)  # two empty blocks end a tar file


class Planned(NamedTuple):
    """One recording to be stored: features (rows, channels) of a number type of `shard_index.DTYPES`."""

    id: str
    rows: int
    channels: int
    dtype: str

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return self.rows * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ShardPlan:
    """The recordings of each shard, and the index that the finished shards will have."""

    shards: list[list[Planned]]
    index: ShardIndex


def plan_shards(recordings: Sequence[Planned], limit: int, origin: str) -> ShardPlan:
    """Fill shards one after the other, sorted by recording id, each up to `limit` bytes.

    A recording is never cut: one that is larger has a shard of its own.
    """
    shards: list[list[Planned]] = []
    places: list[Entry] = []
    sizes: list[int] = []
    ordered = sorted(recordings, key=lambda recording: recording.id.encode("utf-8"))
    for recording in ordered:
        before = len(member_start(recording))
        whole = padded(before + recording.size)
        if not shards or sizes[-1] + whole > limit:
            shards.append([])
            sizes.append(len(END))
        at = sizes[-1] - len(END) + before
        places.append(Entry(len(shards) - 1, at, recording.rows, recording.channels, recording.dtype))
        shards[-1].append(recording)
        sizes[-1] += whole
    names = [(shard_name(number), size) for number, size in enumerate(sizes)]
    return ShardPlan(shards, ShardIndex.of(origin, names, [recording.id for recording in ordered], places))


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"features-{number:06d}.tar"


def padded(size: int) -> int:
    """Bytes up to the next block of a tar file."""
    return -(-size // BLOCK) * BLOCK


def member_start(recording: Planned) -> bytes:
    """What stands before the numbers of a recording: the header of the tar member and that of the `.npy` file.

    Owner, time and rights are always the same, so that the same features make the same shard.
    """
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array,
        {
            "descr": np.dtype(recording.dtype).newbyteorder("<").str,
            "fortran_order": False,
            "shape": (recording.rows, recording.channels),
        },
    )
    member = tarfile.TarInfo(recording.id + MEMBER_ENDING)
    member.size = len(array.getvalue()) + recording.size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + array.getvalue()
