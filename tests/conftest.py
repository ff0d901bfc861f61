"""What every test may use: reference data where it is, runners of the commands, settings that make tests repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Set before torch starts its threads: small tensors are faster on one thread, and one thread adds in one order.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parent.parent
RunCli = Callable[..., "subprocess.CompletedProcess[str]"]

# The same examples on every run (a red test is red again), and no deadline: a shared machine is no stop-watch.
settings.register_profile(
    "eventide",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("eventide")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `cuda` on a machine without a CUDA device."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data too large for the repository; a test that asks for it is skipped where it is absent.

    The folder is $EVENTIDE_SHARED, else `../shared` beside the repository.
    """
    folder = Path(os.environ.get("EVENTIDE_SHARED") or REPOSITORY.parent / "shared")
    if not (folder / "reference").is_dir():
        pytest.skip(f"no reference data at {folder} (EVENTIDE_SHARED names another place)")
    return folder


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """`run_cli(args, cwd, timeout=300)` runs `eventide ARGS` in a process of its own; nothing is raised on failure."""

    def run(
        args: Sequence[str], cwd: Path | str | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return run_python(["-c", "from eventide.cli import main; main()", *map(str, args)], cwd, timeout)

    return run


@pytest.fixture(scope="session")
def run_train() -> RunCli:
    """`run_train(args, cwd, timeout=300)` runs `python train.py ARGS` in a process of its own."""

    def run(
        args: Sequence[str], cwd: Path | str | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return run_python([str(REPOSITORY / "train.py"), *map(str, args)], cwd, timeout)

    return run


def run_python(
    args: Sequence[str], cwd: Path | str | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run this Python with `args`, output captured as text, lines wide enough that messages are not wrapped."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "300", "NO_COLOR": "1"},
        check=False,
    )
