"""ops/compiled.py: compiled functions also work where nothing can be kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import pytest

from eventide.ops import compiled as module


def test_without_a_place_for_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def njit(*, cache: bool = False, **options: Any) -> Callable[..., Any]:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(module, "njit", njit)

    @module.compiled
    def double(x: float) -> float:
        return 2 * x

    @module.compiled(inline="always")
    def triple(x: float) -> float:
        return 3 * x

    assert double(2.0) == 4.0
    assert triple(2.0) == 6.0
    assert asked == [True, False, True, False]
