"""The lock of a run's folder: one training at a time, and nobody holds it who does not train."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from eventide.engine.run_folder import RunFolder
from eventide.types import EventideError
from tests.engine.making import run_training, tiny_config


def test_two_trainings_in_one_folder_are_refused(tiny_data: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny_twice")
    folder.open(None)
    with folder.locked(), pytest.raises(EventideError, match="another process is training"):
        run_training(tmp_path, tiny_config(tiny_data), "twice")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="loader processes are not forked here")
def test_loader_processes_do_not_hold_the_folder(tmp_path: Path) -> None:
    """They outlive a training that was killed by some seconds, in which torchrun starts it anew."""
    folder = RunFolder(tmp_path)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def wait_in_child() -> None:
        theirs.send("here")
        theirs.recv()

    with folder.locked():
        child = context.Process(target=wait_in_child, daemon=True)
        child.start()
        assert ours.recv() == "here"
    with folder.locked():
        assert child.is_alive()
    ours.send("end")
    child.join()
    assert child.exitcode == 0
