"""Pools of two and three processes, and the data of the tiny training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.engine.making import write_data
from tests.engine.several.pool import Pool


@pytest.fixture(scope="session")
def pair() -> Iterator[Pool]:
    with closing(Pool(2)) as pool:
        yield pool


@pytest.fixture(scope="session")
def triple() -> Iterator[Pool]:
    with closing(Pool(3)) as pool:
        yield pool


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds `data/`; the first recording and the last have no events."""
    folder = tmp_path_factory.mktemp("several")
    write_data(folder, without_events=("rec0", "rec4"))
    return folder
