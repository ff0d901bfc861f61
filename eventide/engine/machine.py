"""What this machine has for training: GPUs, memory, cores, the version of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from eventide.engine.devices import cpu_has_bfloat16

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """Facts about a machine; `memory` is that of one GPU, or the main memory where there is none (bytes)."""

    gpus: int
    memory: int | None  # None: unknown
    name: str = ""  # of the GPU
    cores: int = 1
    torch_version: str = torch.__version__
    bfloat16: bool = True  # computed by the hardware itself


def this_machine() -> Machine:
    """The machine that this runs on, as far as this process may use it."""
    cores, version = usable_cores(), str(torch.__version__)
    if torch.cuda.is_available() and torch.cuda.device_count():
        count = torch.cuda.device_count()
        properties = [torch.cuda.get_device_properties(index) for index in range(count)]
        smallest = min(properties, key=lambda item: item.total_memory)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return Machine(count, int(smallest.total_memory), smallest.name, cores, version, native)
    return Machine(0, main_memory(), "", cores, version, cpu_has_bfloat16())


def usable_cores() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def main_memory() -> int | None:
    """Bytes of main memory, or of the container's share; None where the system does not tell."""
    found = []
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    for path in CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)
