"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any

HAS_LOCKS = find_spec("fcntl") is not None  # Windows has none


def lock(file: IO[Any] | int, *, shared: bool = False, wait: bool = True) -> bool | None:
    """Lock an open file, or a folder by its descriptor, until it is closed: True, or False where another process has
    it and `wait` is false.

    None where the system or the file system has no locks.
    """
    if not HAS_LOCKS:
        return None
    import fcntl

    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def not_in_children(file: IO[Any]) -> Iterator[None]:
    """Close `file` in processes that are forked within the context: loader processes outlive a killed training by some
    seconds, and would hold its lock.
    """
    _held.add(file)
    try:
        yield
    finally:
        _held.discard(file)


_held: set[IO[Any]] = set()


def _let_go() -> None:
    for file in _held:
        file.close()  # nothing is written to it; the lock stays with the parent
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
