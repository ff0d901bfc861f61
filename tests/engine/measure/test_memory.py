"""Peak memory: the fresh process, what it answers, and what is said when it cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from eventide.engine.measure import memory_worker, peak_memory
from eventide.engine.measure.peak_memory import MemoryJob, measure_memory
from eventide.engine.measure.results import Work
from eventide.types import EventideError
from tests.models.making import small_config

CPU = torch.device("cpu")


def job(work: Work = "inference", length: int = 48, width: int = 16) -> MemoryJob:
    return MemoryJob(small_config(model__backbone__n_embd=width), work, length, 1, amp=False, threads=1)


def test_a_job_travels_as_text() -> None:
    assert MemoryJob.from_json(job().to_json()) == job()


@pytest.mark.parametrize("work", ["training", "inference"])
def test_what_the_process_measures(work: Work) -> None:
    found = memory_worker.measure(job(work))
    assert 0 <= found["above_input"] <= found["in_all"]


@pytest.mark.slow
def test_memory_grows_with_the_length() -> None:
    short, long = (measure_memory(job("inference", length, 64), CPU) for length in (2000, 40_000))
    assert short is not None
    assert long is not None
    assert 0 < short.above_input <= short.in_all
    # 38,000 vectors of 64 channels in float32, several tensors at a time; far below what full attention would take
    assert 10e6 < long.above_input - short.above_input < 500e6


def fake_python(folder: Path, script: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the process")
@pytest.mark.parametrize(
    ("label", "script", "message"),
    [
        ("killed", "kill -9 $$", "out of memory: the system ended the process"),
        ("failed", "echo trace >&2; echo 'ValueError: odd' >&2; exit 1", "failed: ValueError: odd"),
        ("failed without a word", "exit 3", "failed: no message"),
        ("says nothing", "exit 0", "failed: no message"),
        ("ran out", """cat > /dev/null; echo '{"error": "out of memory"}'""", "^out of memory$"),
    ],
)
def test_a_process_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, script: str, message: str
) -> None:
    monkeypatch.setattr(peak_memory.sys, "executable", fake_python(tmp_path, f"cat > /dev/null\n{script}"))
    with pytest.raises(EventideError, match=message):
        measure_memory(job(), CPU)


def test_a_device_that_does_not_tell() -> None:
    assert measure_memory(job(), torch.device("mps")) is None


def test_resident_memory_is_read() -> None:
    block = torch.ones(5_000_000)
    assert memory_worker.resident() > block.nbytes
    assert memory_worker.resident("VmHWM") >= memory_worker.resident() * 0.9
