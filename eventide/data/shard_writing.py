"""Writing feature shards: restartable, every file whole or not there, the index last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np

from eventide.data.features import FeatureStore
from eventide.data.places import LocalFolder, Place
from eventide.data.shard_index import INDEX_NAME
from eventide.data.shard_plan import BLOCK, END, Planned, ShardPlan, member_start, plan_shards
from eventide.data.shards import PLAN_NAME, read_index
from eventide.ops.files import TEMPORARY_SUFFIX
from eventide.ops.json_reading import parse_json
from eventide.ops.locks import lock
from eventide.ops.problems import raise_problems
from eventide.types import EventideError, UsageError

StoredType = Literal["keep", "float16", "float32"]
Progress = Callable[[str, int, int], None]
_CHUNK = 64 << 20  # bytes of float32 features in memory at once
_OTHER = "give an empty folder, or remove what is in this one"


@dataclass(frozen=True)
class Command:
    """What is asked for; an interrupted run is gone on with by the same."""

    size: int  # bytes of a shard, at most
    dtype: StoredType
    recordings: str  # SHA-256 of their ids


class Written(NamedTuple):
    """What a run has done. Bytes are those of all shards."""

    shards: int
    kept: int  # shards that were there already
    recordings: int
    bytes: int


def write_shards(
    store: FeatureStore, ids: Sequence[str], place: Place, size: int, dtype: StoredType, on_progress: Progress
) -> Written:
    """Store the features of the recordings `ids` as shards of up to `size` bytes; several folders are joined.

    Shards that an interrupted run of the same command has finished are kept, as far as their features are the same.

    Raises:
        UsageError: the place holds something else, or is too small.
        EventideError: features are wrong, writing fails, or another command is at work there; what is finished stays.
    """
    with _alone(place):
        return _write(store, ids, place, size, dtype, on_progress)


def _write(
    store: FeatureStore, ids: Sequence[str], place: Place, size: int, dtype: StoredType, on_progress: Progress
) -> Written:
    """What `write_shards` does, alone at its place."""
    command = Command(size, dtype, _digest(sorted(ids)))
    unfinished, there = _earlier(place, command)
    recordings, states = _look(store, ids, dtype, on_progress)
    digests, plan = _plan(recordings, states, command)
    if there.keys() & {INDEX_NAME}:
        _check_same(place, plan)
        return Written(len(plan.shards), len(plan.shards), len(ids), int(plan.index.sizes.sum()))
    planned = dict(zip(plan.index.shards, plan.index.sizes.tolist(), strict=True))
    done = {name for name in planned if there.get(name) == planned[name] and unfinished.get(name) == digests[name]}
    for name in there.keys() - done - {PLAN_NAME}:
        place.remove(name)
    _check_room(place, sum(planned.values()) - sum(planned[name] for name in done))
    finished = len(done)
    try:
        _write_json(place, PLAN_NAME, {"command": asdict(command), "shards": digests})
        for number, (name, members) in enumerate(zip(plan.index.shards, plan.shards, strict=True)):
            if name not in done:
                place.write(name, partial(_fill, store=store, members=members))
                finished += 1
            on_progress("writing shards", number + 1, len(plan.shards))
        place.write(INDEX_NAME, lambda file: file.write(plan.index.to_json()))
        place.remove(PLAN_NAME)
    except (EventideError, OSError) as error:
        reason = f"{error.strerror}: {error.filename or place.name}" if isinstance(error, OSError) else str(error)
        kept = f"{finished} of {len(planned)} shards are finished and kept"
        kind = type(error) if isinstance(error, EventideError) else EventideError
        raise kind(f"{reason}; {kept}: mend this and run the same command again") from None
    return Written(len(planned), len(done), len(ids), sum(planned.values()))


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Within the context no other command of this machine writes shards into a local folder: it would take the
    unfinished file for one that is left, and remove it.
    """
    if not isinstance(place, LocalFolder):
        yield
        return
    folder = Path(place.path)
    is_new = not folder.exists()
    with ExitStack() as stack:
        with suppress(OSError):  # what is wrong with the folder, reading and writing say
            folder.mkdir(parents=True, exist_ok=True)
            number = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, number)
            if lock(number, wait=False) is False:
                raise EventideError(f"{place.name}: another eventide shard is writing there; wait for it, or stop it")
        try:
            yield
        finally:
            if is_new:
                with suppress(OSError):
                    folder.rmdir()  # where nothing was written


def _earlier(place: Place, command: Command) -> tuple[dict[str, str], dict[str, int]]:
    """Digests of the shards of an unfinished run, and the bytes of all files that are there.

    Raises:
        UsageError: something else is there, or a run of another command.
    """
    there = {name: size for name, size in place.sizes().items() if name}
    left = [name for name in there if name.startswith((".features-", ".shards.")) and name.endswith(TEMPORARY_SUFFIX)]
    for name in left:
        place.remove(name)
        del there[name]
    foreign = [name for name in there if name not in (INDEX_NAME, PLAN_NAME) and not _is_shard(name)]
    if foreign or (there and not there.keys() & {INDEX_NAME, PLAN_NAME}):
        raise UsageError(f"{place.name}: holds other files, such as {min(foreign or there)}; {_OTHER}")
    if INDEX_NAME in there or PLAN_NAME not in there:
        return {}, there
    content = parse_json(place.read(PLAN_NAME).tobytes(), f"{place.name}/{PLAN_NAME}")
    if not isinstance(content, dict) or content.get("command") != asdict(command):
        raise UsageError(
            f"{place.name}: holds unfinished shards of other recordings, --size or --dtype; run the command that began "
            f"them, or {_OTHER}"
        )
    shards = content.get("shards")
    return (shards if isinstance(shards, dict) else {}), there


def _is_shard(name: str) -> bool:
    return name.startswith("features-") and name.endswith(".tar")


def _look(
    store: FeatureStore, ids: Sequence[str], dtype: StoredType, on_progress: Progress
) -> tuple[list[Planned], dict[str, str]]:
    """Shape of every recording, and by id a text that changes when its features are replaced."""
    found, states, problems = [], {}, []
    for number, name in enumerate(ids):
        try:
            rows, sources = store.length(name), store.sources(name)
            headers = [store.header(source) for source in sources]
        except EventideError as error:
            problems.append(str(error))
            continue
        half = dtype == "float16" or (dtype == "keep" and all(header.dtype == "float16" for header in headers))
        channels = sum(header.shape[1] for header in headers)
        found.append(Planned(name, rows, channels, "float16" if half else "float32"))
        states[name] = " ".join(store.state(source) for source in sources)
        on_progress("looking at features", number + 1, len(ids))
    raise_problems("features", problems)
    return found, states


def _plan(recordings: Sequence[Planned], states: dict[str, str], command: Command) -> tuple[dict[str, str], ShardPlan]:
    """The plan, and by shard a digest of what goes into it."""
    first = plan_shards(recordings, command.size, "")
    digests = {
        name: _digest(f"{member} {states[member.id]}" for member in members)
        for name, members in zip(first.index.shards, first.shards, strict=True)
    }
    return digests, plan_shards(recordings, command.size, _digest([str(asdict(command)), *digests.values()]))


def _digest(texts: Iterable[str]) -> str:
    total = hashlib.sha256()
    for text in texts:
        total.update(text.encode("utf-8") + b"\0")
    return total.hexdigest()


def _check_same(place: Place, plan: ShardPlan) -> None:
    """Refuse finished shards that this command would not have made."""
    if read_index(place).origin != plan.index.origin:
        raise UsageError(
            f"{place.name}: holds finished shards of other features, recordings, --size or --dtype; {_OTHER}"
        )


def _check_room(place: Place, needed: int) -> None:
    """Refuse to begin what a local disk has no room for."""
    if not isinstance(place, LocalFolder):
        return
    folder = Path(place.path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{place.name}: {needed / 1e6:,.1f} MB are needed, but the disk has {free / 1e6:,.1f} MB left; make room, "
            "or write to another disk or a URL"
        )


def _write_json(place: Place, name: str, content: object) -> None:
    place.write(name, lambda file: file.write(json.dumps(content, indent=1).encode("utf-8") + b"\n"))


def _fill(file: BinaryIO, store: FeatureStore, members: Sequence[Planned]) -> None:
    """Write one shard."""
    for member in members:
        _write_member(file, store, member)
    file.write(END)


def _write_member(file: BinaryIO, store: FeatureStore, member: Planned) -> None:
    """Write the features of one recording, a part at a time, so that memory does not grow with its length."""
    start = member_start(member)
    file.write(start)
    step = max(1, _CHUNK // (4 * member.channels))
    for first in range(0, member.rows, step):
        stop = min(first + step, member.rows)
        values = store.read(member.id, first, stop)
        if values.shape != (stop - first, member.channels):
            raise EventideError(f"recording {member.id!r}: its features have changed in the meantime")
        with np.errstate(over="ignore"):
            stored = values.astype(np.dtype(member.dtype).newbyteorder("<"), copy=False)
        if stored.dtype.itemsize < 4 and not np.isfinite(stored).all():
            raise EventideError(
                f"recording {member.id!r}: its features go up to {np.abs(values).max():g}, beyond float16 (65504); "
                "choose --dtype float32 or keep"
            )
        file.write(stored.data)
    file.write(bytes(-(len(start) + member.size) % BLOCK))
