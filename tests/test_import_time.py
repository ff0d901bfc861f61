"""`import eventide` and `eventide --help` stay quick: they load none of the heavy libraries."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import run_python

HEAVY = ["torch", "numba", "matplotlib", "lightning_fabric", "tensorboard", "h5py", "scipy", "pandas"]
REPORT = f"\nimport sys; print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"


def loaded_by(code: str) -> list[str]:
    """Names of the heavy modules that a fresh Python has loaded after `code`."""
    done = run_python(["-c", code + REPORT])
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.rsplit("LOADED", 1)[1].strip())


def test_the_probe_sees_a_heavy_module() -> None:
    assert loaded_by("import h5py") == ["h5py"]


def test_import_eventide() -> None:
    assert loaded_by("import eventide; eventide.__version__") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["config", "--help"]], ids=" ".join)
def test_help_and_version(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["eventide", *{arguments!r}]
from eventide.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_by(code) == []
