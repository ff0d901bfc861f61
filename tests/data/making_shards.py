"""Shards and places for tests: a store that fails when told to, and shards of small features in a folder or a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
from fsspec.implementations.memory import MemoryFileSystem

from eventide.data.features import FeatureStore
from eventide.data.places import open_place
from eventide.data.shard_writing import Progress, StoredType, Written, write_shards


class FailingFileSystem(MemoryFileSystem):
    """Files in memory behind failing://, whose reads raise what `errors` holds, one after the other."""

    protocol = "failing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    errors: ClassVar[list[Exception]] = []
    short: ClassVar[int] = 0  # bytes that are missing at the end of every answer
    reads: ClassVar[list[tuple[str, int | None, int | None]]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("failing://", "memory://"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **other: Any) -> bytes:
        type(self).reads.append((path, start, end))
        if self.errors:
            raise self.errors.pop(0)
        data = super().cat_file(path, start, end, **other)
        return data[: len(data) - self.short]


@contextmanager
def failing_store() -> Iterator[type[FailingFileSystem]]:
    """The store behind failing://, empty at first."""
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    kind = FailingFileSystem
    kind.store.clear()
    kind.pseudo_dirs[:] = [""]
    kind.errors.clear()
    kind.reads.clear()
    kind.short = 0
    yield kind
    kind.short = 0
    kind.errors.clear()


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def shard_folder(
    source: str | list[str],
    target: str | Path,
    ids: list[str],
    *,
    size: int = 4000,
    dtype: StoredType = "keep",
    progress: Progress = quiet,
    **store: Any,
) -> Written:
    """Store the recordings `ids` of feature folders as small shards."""
    return write_shards(FeatureStore(source, **store), ids, open_place(str(target)), size, dtype, progress)


def stop_after(count: int, what: str = "writing shards") -> Callable[[str, int, int], None]:
    """Progress that interrupts as Ctrl-C does, when `count` are done."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage == what and done == count:
            raise KeyboardInterrupt

    return progress


def write_many(folder: Path, count: int, channels: int = 4, dtype: Any = np.float32, seed: int = 0) -> list[str]:
    """Random features of `count` recordings of 3 to 60 vectors, whatever the seed; returns their ids."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = [f"rec{index:03d}" for index in range(count)]
    for name, rows in zip(names, np.random.default_rng(1).integers(3, 61, count).tolist(), strict=True):
        np.save(folder / f"{name}.npy", rng.normal(size=(rows, channels)).astype(dtype))
    return names
