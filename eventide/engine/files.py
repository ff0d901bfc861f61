"""Files that are whole or not there: written beside their place, flushed to the disk, then moved into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from eventide.types import EventideError

TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file, then put it at `path`; a process killed at any moment leaves the old file.

    Raises:
        EventideError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EventideError(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for text, UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def remove_temporary_files(folder: Path) -> None:
    """Remove what writers that were killed have left in `folder` and the folders in it."""
    for path in folder.rglob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


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
