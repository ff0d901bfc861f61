"""Reading a set of feature shards: any rows of any recording by one read of a range of bytes, local or by URL."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from eventide.data.formats import Header
from eventide.data.places import Place, is_remote, open_place
from eventide.data.remote import cut_off, local_path
from eventide.data.shard_index import INDEX_NAME, Entry, ShardIndex, parse_index
from eventide.ops.problems import problem_message
from eventide.types import EventideError, UsageError

PLAN_NAME = "shards.unfinished.json"  # beside the shards while they are being made
_ASKED_AT_ONCE = 8


def is_shard_set(folder: str) -> bool:
    """Whether a feature folder is a set of shards: a URL, or a folder with an index (or one that is being made)."""
    path = local_path(folder)
    return path is None or any(os.path.isfile(os.path.join(path, name)) for name in (INDEX_NAME, PLAN_NAME))


class ShardSet:
    """The shards in a local folder or behind a URL; the index is read at once, the features when they are asked for.

    May be shared with threads and with forked or spawned processes.

    Raises:
        UsageError: there are no (finished) shards there.
        EventideError: the index is damaged or of another version; a shard in a local folder is missing or cut off.
    """

    def __init__(self, folder: str) -> None:
        self.place: Place = open_place(folder)
        self.name = self.place.name
        self.index = read_index(self.place)
        if not is_remote(folder) and (problems := self.problems()):
            raise EventideError(problem_message(self.name, problems))

    def __contains__(self, recording_id: str) -> bool:
        return self.index.find(recording_id) is not None

    def names(self) -> list[str]:
        """All recording ids, sorted."""
        return self.index.names()

    def header(self, recording_id: str) -> Header:
        """Shape and number type of a recording's features, from the index."""
        entry = self._entry(recording_id)
        return Header((entry.rows, entry.channels), entry.dtype)

    def rows(self, recording_id: str, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Rows start, start + step, ... before `stop` of a recording, as a new float32 array (T, C).

        Raises:
            EventideError: the recording or its shard is missing, or cannot be read.
        """
        entry = self._entry(recording_id)
        start, stop, step = slice(start, stop, step).indices(entry.rows)
        count = max(0, stop - start)
        shard = self.index.shards[entry.shard]
        try:
            data = self.place.read(shard, entry.offset + start * entry.row_bytes, count * entry.row_bytes)
        except FileNotFoundError:
            raise EventideError(f"{self.name}/{shard}: {_GONE}") from None
        stored = data.view(np.dtype(entry.dtype).newbyteorder("<")).reshape(count, entry.channels)
        return np.require(stored[::step], np.float32, ["C", "W"])

    def _entry(self, recording_id: str) -> Entry:
        entry = self.index.find(recording_id)
        if entry is None:
            raise EventideError(f"{self.name}: the shards hold no recording {recording_id!r}")
        return entry

    def problems(self) -> list[str]:
        """Every shard that is missing or of another size than the index says; asks for the size of each."""
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            found = pool.map(self._problem, self.index.shards, self.index.sizes.tolist())
            return [problem for problem in found if problem]

    def _problem(self, shard: str, expected: int) -> str:
        try:
            size = self.place.size(shard)
        except FileNotFoundError:
            return f"{shard}: {_GONE}"
        if size is None or size == expected:
            return ""
        if size < expected:
            return f"{cut_off(shard)} ({size} of {expected} bytes)"
        return (
            f"{shard}: is no shard of this index ({size} bytes, not {expected}); copy shards and {INDEX_NAME} together"
        )


_GONE = "the shard is missing; copy it again, or make the shards again"


def read_index(place: Place) -> ShardIndex:
    """The index of the shards in a place.

    Raises:
        UsageError: there is none; the message tells what is there instead.
        EventideError: it cannot be read, is damaged or of another version.
    """
    try:
        return parse_index(place.read(INDEX_NAME).tobytes(), f"{place.name}/{INDEX_NAME}")
    except FileNotFoundError:
        pass
    try:
        place.read(PLAN_NAME)
    except FileNotFoundError:
        raise UsageError(
            f"{place.name}: holds no {INDEX_NAME}, so there are no shards; check the address, or make them with "
            "eventide shard"
        ) from None
    raise UsageError(f"{place.name}: these shards are not finished; run the same eventide shard command again")
