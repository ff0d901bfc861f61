"""Peak memory of a work: on CPUs of a fresh process, on CUDA as the allocator counts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

import eventide
from eventide.config import Config
from eventide.engine.measure.results import Memory, Work
from eventide.engine.measure.turns import OUT_OF_MEMORY
from eventide.engine.measure.workload import make_workload, random_batch
from eventide.types import EventideError


@dataclass(frozen=True)
class MemoryJob:
    """What to run in the fresh process."""

    config: Config
    work: Work
    length: int
    batch: int
    amp: bool
    threads: int

    def to_json(self) -> str:
        values = {**vars(self), "config": self.config.model_dump(mode="json")}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> MemoryJob:
        values = json.loads(text)
        config = Config.model_validate_json(json.dumps(values.pop("config")))
        return cls(config=config, **values)


def measure_memory(job: MemoryJob, device: torch.device) -> Memory | None:
    """Peak of the job's work, or None where the device does not tell.

    Raises:
        EventideError: memory ran out, or the process failed; says which.
    """
    if device.type == "cpu":
        return _of_a_process(job)
    if device.type == "cuda":
        return _of_cuda(job, device)
    return None


def _of_a_process(job: MemoryJob) -> Memory:
    """Peak resident memory of a fresh process, which has no other work's memory to reuse."""
    # The same package as here, wherever this was started: -P leaves the working directory out of the search.
    words = [sys.executable, "-P", "-m", "eventide.engine.measure.memory_worker"]
    path = [str(Path(eventide.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    threads = str(job.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C is ours to answer
    )
    try:
        output, errors = process.communicate(job.to_json())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == -signal.SIGKILL:
        raise EventideError(f"{OUT_OF_MEMORY}: the system ended the process")
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise EventideError(f"the process that measures memory failed: {last}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise EventideError(answer["error"])
    return Memory(**answer)


def _of_cuda(job: MemoryJob, device: torch.device) -> Memory:
    """Peak of the allocator in this process, less what it held before."""
    torch.cuda.empty_cache()
    bare = torch.cuda.memory_allocated(device)
    workload = make_workload(job.work, job.config, device, job.amp)
    batch = random_batch(job.config, job.length, job.batch).to(device)
    workload.run(batch)  # what the libraries keep, and the optimiser's state
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = sum(tensor.nbytes for tensor in [*workload.module.parameters(), *workload.module.buffers()])
    ready = bare + held + batch.features.nbytes
    workload.run(batch)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return Memory(peak - ready, peak - bare)
