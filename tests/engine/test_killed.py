"""A training that is killed 20 times ends with the same weights as one that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.killed import kill_test


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    assert kill_test(tmp_path, kills=20, seed=1) == []
