"""How the processes of a training find one another: in a minute, or with a message that says what is wrong."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import SLURMEnvironment

from eventide.engine.processes import Launch
from eventide.engine.world import World
from eventide.types import EventideError, UsageError

# A process that evaluates or checks the data lets the others wait; longer than this means that it hangs.
PATIENCE = timedelta(minutes=30)
PAUSE = 0.5  # seconds between two attempts to reach the first process


@contextmanager
def joined(launch: Launch, device_type: str, seconds: float) -> Iterator[World]:
    """The world of this process, once all have come; they part at the end.

    `seconds` is how long to wait for the others.

    Raises:
        EventideError: the first process cannot be reached, or others do not come in time.
        UsageError: more processes on this machine than CUDA devices, or no address.
    """
    if launch.size == 1:
        yield World(launch)
        return
    refuse_too_few_devices(launch, device_type)
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    store = _store(launch, seconds)
    try:
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EventideError(f"the {launch.size} processes could not be connected: {_short(error)}") from None
    try:
        yield World(launch)
    finally:
        dist.destroy_process_group()


def refuse_too_few_devices(launch: Launch, device_type: str) -> None:
    """Raise UsageError where processes would have to share a CUDA device."""
    count = torch.cuda.device_count() if device_type == "cuda" else launch.local_size
    if count < launch.local_size:
        raise UsageError(
            f"{launch.local_size} processes on this machine, but it has {count} CUDA device(s): start as many "
            "(--nproc_per_node), or set device: cpu"
        )
    if device_type == "mps":
        raise UsageError("device mps cannot be shared by several processes: start one, or set device: cpu")


def meeting_place(launch: Launch, environment: Mapping[str, str] | None = None) -> tuple[str, int]:
    """Host and port of the first process.

    Raises:
        UsageError: not told, or no port number.
    """
    environment = os.environ if environment is None else environment
    if launch.launcher == "slurm" and "MASTER_ADDR" not in environment:
        cluster = SLURMEnvironment()
        return cluster.main_address, cluster.main_port
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing and launch.launcher == "slurm":
        return environment["MASTER_ADDR"], SLURMEnvironment().main_port
    if missing:
        raise UsageError(f"{' and '.join(missing)} not set: where the {launch.size} processes meet; torchrun sets both")
    if not environment["MASTER_PORT"].isdigit():
        raise UsageError(f"MASTER_PORT={environment['MASTER_PORT']}: a port number is expected")
    return environment["MASTER_ADDR"], int(environment["MASTER_PORT"])


def _store(launch: Launch, seconds: float) -> dist.Store:
    """The table through which the processes find one another; torchrun has opened one already."""
    host, port = meeting_place(launch)
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    first = launch.is_first and not hosted
    if not first:
        _wait_for(host, port, seconds)
    try:
        store: dist.Store = dist.TCPStore(
            host, port, None if hosted else launch.size, is_master=first, timeout=timedelta(seconds=seconds)
        )
    except dist.DistStoreError:
        raise EventideError(
            f"not all {launch.size} processes came within {seconds:.0f} s to {host}:{port}; start them together, with "
            "the same address, port and number of processes on every machine, or wait longer (--connect-timeout)"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise EventideError(f"{host}:{port} cannot be used to meet: {_short(error)}") from None
    if hosted:  # the store outlives a restart: what the processes before have left there must not be read
        store = dist.PrefixStore(f"eventide-{launch.restarts}", store)
    return store


def _wait_for(host: str, port: int, seconds: float) -> None:
    """Return once somebody listens at `host`:`port`."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=max(PAUSE, end - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() + PAUSE > end:
                raise EventideError(
                    f"the first process cannot be reached at {host}:{port} within {seconds:.0f} s: "
                    f"{error.strerror or error}; MASTER_ADDR and MASTER_PORT must name the machine where process 0 runs"
                ) from None
        time.sleep(PAUSE)


def _short(error: BaseException) -> str:
    """The first line of what a library says."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
