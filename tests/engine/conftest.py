"""The data set of the tiny training, once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.making import write_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds `data/`; runs go under `runs/`, each test by its own names."""
    folder = tmp_path_factory.mktemp("tiny")
    write_data(folder)
    return folder
