"""The fresh process whose peak resident memory is measured: `python -m eventide.engine.measure.memory_worker`.

Reads a `MemoryJob` from standard input and answers with one JSON line.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import torch

from eventide.engine.measure.peak_memory import MemoryJob
from eventide.engine.measure.turns import why_it_failed
from eventide.engine.measure.workload import make_workload, random_batch
from eventide.engine.memory import keep_freed_memory

SHORT = 64  # vectors of a first pass that loads and compiles what there is to load
STATUS = Path("/proc/self/status")


def resident(key: str = "VmRSS") -> int:
    """Resident bytes of this process now, or at most so far with `VmHWM`."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux: only the peak is told
        return _peak_elsewhere()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _peak_elsewhere() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Let the peak start from the present size, where the system can; elsewhere building the model may count."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        print(f"the peak could not be reset: {error}", file=sys.stderr)


def give_back_freed_memory() -> None:
    """Return freed memory to the system, so that what comes next is counted."""
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def measure(job: MemoryJob) -> dict[str, int]:
    """Bytes above weights and input, and above the bare program."""
    device = torch.device("cpu")
    # The compiler is asked for the real length, or it would be at work again when the peak is read.
    first = job.length if job.config.train_cfg.compile and job.work == "training" else SHORT
    make_workload(job.work, job.config, device, job.amp).run(random_batch(job.config, first, job.batch))
    give_back_freed_memory()
    bare = resident()
    workload = make_workload(job.work, job.config, device, job.amp)
    batch = random_batch(job.config, job.length, job.batch)
    ready = resident()
    if job.work == "training":  # from the second step on, the optimiser's state lies beside the activations
        workload.run(batch)
        give_back_freed_memory()
    forget_peak()
    workload.run(batch)
    peak = resident("VmHWM")
    return {"above_input": max(peak - ready, 0), "in_all": max(peak - bare, 0)}


def main() -> None:
    """Answer one job."""
    job = MemoryJob.from_json(sys.stdin.read())
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    try:
        answer: dict[str, int | str] = {**measure(job)}
    except (RuntimeError, MemoryError) as error:
        reason = why_it_failed(error)
        if reason is None:
            raise
        answer = {"error": reason}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
