"""How the processes of a training find one another: in a minute, or with a message that says what is wrong."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import SLURMEnvironment

from eventide.engine.processes import Launch
from eventide.engine.world import World, in_short
from eventide.types import EventideError, UsageError

# Processes that add up gradients are equally far: longer than this means that one of them hangs.
PATIENCE = timedelta(minutes=30)
# The first one alone checks the data and scores detections, for hours where there are many; the others wait. Should it
# die meanwhile they see that at once; should its machine lose the network, only then.
PATIENCE_WITH_WORK = timedelta(days=2)
PAUSE = 0.5  # seconds between two attempts to reach the first process


@contextmanager
def joined(launch: Launch, device_type: str, seconds: float) -> Iterator[World]:
    """The world of this process, once all have come; they part at the end.

    `seconds` is how long to wait for the others.

    Raises:
        EventideError: the first process cannot be reached, or others do not come in time.
        UsageError: more processes on this machine than CUDA devices, or no address.
    """
    hosted = torchrun_table(launch, seconds)
    if launch.size == 1:
        yield World(launch, hosted)
        return
    refuse_too_few_devices(launch, device_type)
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    place = meeting_place(launch)
    table = _table(launch, *place, seconds, False) if hosted is None else hosted
    try:
        store = meet(table, launch, "{}:{}".format(*place), seconds)
    except dist.DistError as error:
        raise EventideError(
            f"process 0 at {place[0]}:{place[1]} is gone ({in_short(error)}); start all processes again"
        ) from None
    try:
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.size, timeout=PATIENCE)
        talk = dist.new_group(backend="gloo", timeout=PATIENCE_WITH_WORK)
    except (RuntimeError, ValueError) as error:
        raise EventideError(f"the {launch.size} processes could not be connected: {in_short(error)}") from None
    try:
        yield World(launch, hosted, talk)
    finally:
        dist.destroy_process_group()


def refuse_too_few_devices(launch: Launch, device_type: str) -> None:
    """Raise UsageError where processes would have to share a CUDA device."""
    count = torch.cuda.device_count() if device_type == "cuda" else launch.local_size
    if count < launch.local_size:
        raise UsageError(
            f"{launch.local_size} processes on this machine, but it has {count} CUDA device(s): start as many "
            "(--nproc_per_node), or set device: cpu; started by hand on several machines, each process needs "
            "LOCAL_WORLD_SIZE, too"
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
    port = environment["MASTER_PORT"]
    if not (port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"MASTER_PORT={port}: a port number from 1 to 65535 is expected")
    return environment["MASTER_ADDR"], int(port)


def torchrun_table(launch: Launch, seconds: float, environment: Mapping[str, str] | None = None) -> dist.Store | None:
    """The table that torchrun has opened for its processes; None where it has opened none.

    Raises:
        EventideError: it cannot be reached within `seconds`.
    """
    environment = os.environ if environment is None else environment
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return _table(launch, *meeting_place(launch, environment), seconds, hosted=True)


def _table(launch: Launch, host: str, port: int, seconds: float, hosted: bool) -> dist.Store:
    """The table through which the processes find one another; `hosted`: torchrun has opened one already."""
    first = launch.is_first and not hosted
    if first:
        _resolve(host, port)
    else:
        _wait_for(host, port, seconds)
    # The first process reaches its own table without the network: the others say whether they do with it.
    try:
        return dist.TCPStore(
            "127.0.0.1" if first else host,
            port,
            None if hosted else launch.size,
            is_master=first,
            timeout=timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        taken = first and "EADDRINUSE" in str(error)
        why = "another program has this port; take another one" if taken else in_short(error)
        raise EventideError(f"{host}:{port} cannot be used to meet: {why}") from None


def meet(table: dist.Store, launch: Launch, place: str, seconds: float) -> dist.Store:
    """The part of the table that is for these processes alone, once all have come.

    A table of torchrun outlives its processes, and machines may count restarts differently. So each process leaves a
    new name, the first one answers every name that it finds, and who was answered signs; what earlier ones have left
    is answered and never signed.

    Raises:
        EventideError: some do not come in time.
        UsageError: two processes have the same rank, or numbers of processes differ.
    """
    if launch.is_first:
        return _welcome(table, launch, place, seconds)
    name = uuid.uuid4().hex
    table.set(f"hello/{launch.rank}", f"{name} {launch.size}")
    answer = _answer(table, launch, name, place, seconds)
    if answer.isdigit():
        raise UsageError(f"WORLD_SIZE is {launch.size} in process {launch.rank} and {answer} in process 0")
    meeting = dist.PrefixStore(answer, table)
    if meeting.add(f"signed/{launch.rank}", 1) > 1:
        raise UsageError(f"two processes were started as RANK={launch.rank}; give each its own")
    return meeting


def _answer(table: dist.Store, launch: Launch, name: str, place: str, seconds: float) -> str:
    """What the first process answers to `name`."""
    end = time.monotonic() + seconds
    while not table.check([f"answer/{name}"]):  # PyTorch's own waiting writes to standard error when it is in vain
        if time.monotonic() > end:
            raise EventideError(
                f"process 0 at {place} has not answered process {launch.rank} of {launch.size} within {seconds:.0f} s; "
                "start all together, each with a rank of its own and the same number of processes, or wait longer "
                "(--connect-timeout)"
            )
        time.sleep(PAUSE / 10)
    return table.get(f"answer/{name}").decode()


def _welcome(table: dist.Store, launch: Launch, place: str, seconds: float) -> dist.Store:
    """What the first process does in `meet`."""
    name = uuid.uuid4().hex
    meeting = dist.PrefixStore(name, table)
    missing, others = set(range(1, launch.size)), set()
    end = time.monotonic() + seconds
    while missing:
        for rank in sorted(missing):
            if table.check([f"hello/{rank}"]):
                their_name, size = table.get(f"hello/{rank}").decode().split()
                fits = int(size) == launch.size
                others |= set() if fits else {f"{size} in process {rank}"}
                table.set(f"answer/{their_name}", name if fits else str(launch.size))
            if meeting.check([f"signed/{rank}"]):
                missing.discard(rank)
        if missing and time.monotonic() > end:
            ranks = ", ".join(map(str, sorted(missing)))
            if others:
                raise UsageError(f"WORLD_SIZE is {launch.size} in process 0 and {', '.join(sorted(others))}")
            raise EventideError(
                f"not all {launch.size} processes came within {seconds:.0f} s to {place}: {ranks} missing; start them "
                "together, with the same address, port and number of processes on every machine, or wait longer "
                "(--connect-timeout)"
            )
        time.sleep(PAUSE / 10)
    return meeting


def _resolve(host: str, port: int) -> None:
    """Raise EventideError where the name of the first process's own machine leads nowhere."""
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise EventideError(
            f"MASTER_ADDR={host}: {error.strerror or error}; it must name the machine where process 0 runs"
        ) from None


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
