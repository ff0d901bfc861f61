"""Loops over numbers, compiled by numba on their first call; no compiler is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator: compile on the first call, keep the machine code on disk for the next process, release the GIL.

    Where no folder can be written (a read-only installation without a home), every process compiles for itself.
    """
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba found no place for its cache
        return njit(nogil=True, **options)(function)
