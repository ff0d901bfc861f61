"""Files behind a URL, through fsspec: ranges of bytes, repeated after hiccups of the network, and clear messages.

fsspec takes its settings (endpoints, credentials) from the environment and from ~/.config/fsspec, as its own
documentation says; nothing is configured here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from eventide.types import EventideError, UsageError

DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds before each repetition of what failed
# What repeating does not mend.
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, TypeError, ValueError, AttributeError)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://|::)")
Result = TypeVar("Result")


def is_url(where: str) -> bool:
    """Whether a folder is given as a URL, such as s3://bucket/shards or simplecache::https://host/shards."""
    return _SCHEME.match(where) is not None


def local_path(where: str) -> str | None:
    """The path that a folder or a file:// URL names on this machine; None where a URL leads elsewhere."""
    if not is_url(where):
        return where
    scheme, _, rest = where.partition("://")
    return rest if scheme in ("file", "local") else None


def cut_off(path: str) -> str:
    """What to say of a shard that ends before the index says."""
    return f"{path}: the shard is cut off, or still being copied; copy it again, or make the shards again"


class _TooShortError(OSError):
    """Fewer bytes came than the file has: the connection broke, or the file is cut off."""


class Remote:
    """The files in the folder that a URL names. Every process makes its own connections."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.name = re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", self.url)  # a password is nobody's business
        self._connected: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connected": None}

    def _connect(self) -> tuple[Any, str]:
        """The file system of this process, and the folder in it."""
        if self._connected is None or self._connected[0] != os.getpid():
            import fsspec.asyn

            if self._connected is not None:  # in a forked process: the parent's thread for requests is not there
                fsspec.asyn.reset_lock()
            try:
                system, folder = fsspec.core.url_to_fs(self.url)
            except ImportError as error:
                package = " ".join(str(error).split()) or "a package is missing"
                raise UsageError(f"{self.name}: {package} (with pip, into this environment)") from None
            except ValueError as error:
                raise UsageError(f"{self.name}: no such kind of URL: {' '.join(str(error).split())}") from None
            self._connected = (os.getpid(), system, folder.rstrip("/"))
        return self._connected[1], self._connected[2]

    def read(self, file: str, start: int = 0, count: int | None = None) -> bytes:
        """`count` bytes of a file from `start`; all of them where it is None.

        Raises:
            FileNotFoundError: there is no such file.
            EventideError: they cannot be read, also after some repetitions.
        """

        def once() -> bytes:
            system, folder = self._connect()
            if count is None:
                return system.cat_file(f"{folder}/{file}")
            data = system.cat_file(f"{folder}/{file}", start=start, end=start + count)
            if len(data) > count:
                raise ValueError("the server sends whole files where a range of bytes is asked for; use another server")
            if len(data) < count:
                raise _TooShortError("fewer bytes came than were asked for")
            return data

        return self._repeat(once, file, "read")

    def sizes(self) -> dict[str, int]:
        """Bytes of each file in the folder, by name; empty where there is none."""

        def once() -> dict[str, int]:
            system, folder = self._connect()
            system.invalidate_cache()
            try:
                found = system.ls(folder, detail=True)
            except FileNotFoundError:
                return {}
            return {str(item["name"]).rsplit("/", 1)[-1]: int(item.get("size") or 0) for item in found}

        return self._repeat(once, "", "listed")

    def size(self, file: str) -> int | None:
        """Bytes of a file, None where the server does not say. `FileNotFoundError`: there is none."""

        def once() -> int | None:
            system, folder = self._connect()
            return system.info(f"{folder}/{file}").get("size")

        return self._repeat(once, file, "found")

    def put(self, file: str, source: str) -> None:
        """Upload the local file `source`."""

        def once() -> None:
            system, folder = self._connect()
            system.put_file(source, f"{folder}/{file}")

        def first() -> None:
            system, folder = self._connect()
            system.makedirs(folder, exist_ok=True)

        self._repeat(first, "", "written")
        self._repeat(once, file, "written")

    def remove(self, file: str) -> None:
        """Remove a file that is there."""
        system, folder = self._connect()
        self._repeat(lambda: system.rm_file(f"{folder}/{file}"), file, "removed")

    def _repeat(self, action: Callable[[], Result], file: str, done: str) -> Result:
        """Do something, up to `len(DELAYS)` times more when it fails in a way that may pass."""
        name = f"{self.name}/{file}" if file else self.name
        tries = 0
        while True:
            tries += 1
            last = tries > len(DELAYS)
            try:
                return action()
            except (EventideError, FileNotFoundError, MemoryError):
                raise
            except PermissionError as error:
                raise EventideError(
                    f"{name}: no permission ({_reason(error)}); check your credentials and the rights of the folder"
                ) from None
            except _TooShortError:
                if last:
                    raise EventideError(cut_off(name)) from None
            except Exception as error:  # every kind of store raises errors of its own
                if last or isinstance(error, FINAL):
                    raise EventideError(
                        f"{name}: cannot be {done} ({_tries(tries)}; {_reason(error)}); check the address, the network "
                        "and your credentials"
                    ) from None
            time.sleep(DELAYS[tries - 1])


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"
