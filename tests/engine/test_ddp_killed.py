"""A training under torchrun whose processes are killed ends with the same weights as one that nothing disturbed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engine.ddp_killed import kill_test

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]


@pytest.mark.parametrize(("label", "kills", "loaders"), [("workers", 4, 0), ("workers and loaders", 3, 1)])
def test_kills_change_nothing(tmp_path: Path, label: str, kills: int, loaders: int) -> None:
    assert kill_test(tmp_path, kills=kills, processes=2, seed=2, loaders=loaders) == []
