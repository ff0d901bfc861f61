"""Files that are whole or not there: written beside their place, flushed to the disk, then moved into it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from eventide.types import EventideError, UsageError

TEMPORARY_SUFFIX = ".tmp"
_UMASK = threading.Lock()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there becomes `path` at the end, if nothing went wrong.

    Missing folders are made. A process killed at any moment leaves the old file (and perhaps a temporary one).

    Raises:
        UsageError: `path` is a folder, or its folder cannot be made or written.
        EventideError: writing fails later on, for example on a full disk.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the path of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=TEMPORARY_SUFFIX, dir=path.parent)
        os.close(handle)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise EventideError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_file(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def remove_temporary_files(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder` and the folders in it."""
    for path in folder.rglob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def _umask() -> int:
    """The permission bits that new files go without; it can only be read by setting it, one thread at a time."""
    with _UMASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def _flush_folder(folder: Path) -> None:
    """Make a rename durable, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    except OSError:
        return  # some network file systems refuse it; the file itself is flushed
    finally:
        os.close(handle)
