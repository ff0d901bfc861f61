"""Where shards lie, a local folder or a URL: ranges of bytes of their files, and files written whole.

Both kinds may be used by threads and by forked or spawned processes: positions are given with every read, connections
belong to the process that made them, and the number of open files is bounded.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from eventide.data.remote import Remote, cut_off, is_url, local_path
from eventide.ops.files import TEMPORARY_SUFFIX, write_file
from eventide.types import EventideError

MOST_OPEN = 32  # files kept open by one folder
_MOST_AT_ONCE = 1 << 30  # bytes; the system takes less than 2 GiB in one call


class Place(Protocol):
    """A folder, local or remote."""

    name: str  # for messages

    def read(self, file: str, start: int = 0, count: int | None = None) -> np.ndarray:
        """Bytes of a file, (count,) uint8 that may be read-only; all from `start` where `count` is None.

        Raises `EventideError` when they cannot be read, `FileNotFoundError` when there is no such file.
        """
        ...

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name; empty where there is no such folder."""
        ...

    def size(self, file: str) -> int | None:
        """Bytes of a file, None where they are not known. `FileNotFoundError`: there is none."""
        ...

    def write(self, file: str, fill: Callable[[BinaryIO], object]) -> None:
        """Let `fill` write a file, which is whole or not there."""
        ...

    def remove(self, file: str) -> None:
        """Remove a file that is there."""
        ...


def open_place(where: str) -> Place:
    """The place that a path or a URL names; nothing is read and no connection made before it is used."""
    path = local_path(where)
    return RemoteFolder(where) if path is None else LocalFolder(path)


def is_remote(where: str) -> bool:
    """Whether a folder is named by a URL that leads to another machine (file:// does not)."""
    return is_url(where) and local_path(where) is None


class _Handle:
    """An open file that is closed when nobody uses it any more: a thread may still read what another let go of."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class LocalFolder:
    """A folder of this machine, or mounted on it. Files are read without mapping them, so that memory stays flat."""

    def __init__(self, path: str) -> None:
        self.path = self.name = path
        self._forget()

    def _forget(self) -> None:
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _handle(self, file: str) -> _Handle:
        with self._lock:
            handle = self._open.pop(file, None) or _Handle(os.path.join(self.path, file))
            self._open[file] = handle
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        return handle

    def read(self, file: str, start: int = 0, count: int | None = None) -> np.ndarray:
        try:
            handle = self._handle(file)
            if count is None:
                count = max(0, os.fstat(handle.number).st_size - start)
            data = np.empty(count, dtype=np.uint8)
            done = 0
            while done < count:
                # A position of its own: the file may be shared with forked processes.
                got = os.preadv(handle.number, [data[done : done + _MOST_AT_ONCE].data], start + done)
                if got == 0:
                    raise EventideError(cut_off(os.path.join(self.path, file)))
                done += got
        except FileNotFoundError:
            raise
        except OSError as error:
            path = os.path.join(self.path, file)
            raise EventideError(f"{path}: cannot be read: {error.strerror or error}") from None
        return data

    def sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self.path) as found:
                return {entry.name: entry.stat().st_size for entry in found}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise EventideError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    def size(self, file: str) -> int | None:
        return os.stat(os.path.join(self.path, file)).st_size

    def write(self, file: str, fill: Callable[[BinaryIO], object]) -> None:
        write_file(Path(self.path, file), fill)

    def remove(self, file: str) -> None:
        Path(self.path, file).unlink(missing_ok=True)


class RemoteFolder:
    """A folder that a URL names, through fsspec: s3://, gs://, http(s)://, ..."""

    def __init__(self, url: str) -> None:
        self._remote = Remote(url)
        self.name = self._remote.name

    def read(self, file: str, start: int = 0, count: int | None = None) -> np.ndarray:
        if count == 0:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(self._remote.read(file, start, count), dtype=np.uint8)

    def sizes(self) -> dict[str, int]:
        return self._remote.sizes()

    def size(self, file: str) -> int | None:
        return self._remote.size(file)

    def write(self, file: str, fill: Callable[[BinaryIO], object]) -> None:
        # Made here first: an upload that is repeated needs it, and object stores show a file when it is whole.
        with tempfile.NamedTemporaryFile(suffix=TEMPORARY_SUFFIX) as made:
            fill(made)  # type: ignore[arg-type]
            made.flush()
            self._remote.put(file, made.name)

    def remove(self, file: str) -> None:
        self._remote.remove(file)
