"""A few processes that have found one another, kept for many tests: starting them costs seconds each."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[..., Any]  # of a module that the processes can import; gets the world first


class Pool:
    """`size` processes; `run` lets all of them do the same work and gives their results by rank. `patience`: seconds
    that they wait for one another when adding up.
    """

    def __init__(self, size: int, patience: float | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        port = free_port()
        for rank in range(size):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank, size, port, patience), daemon=True)
            process.start()
            self._ends.append(mine)
            self._processes.append(process)

    def run(self, work: Work, *arguments: Any) -> list[Any]:
        """Results by rank. What a process raised is raised here; then the pool is of no use any more."""
        for end in self._ends:
            end.send((work, arguments))
        results = []
        for rank, end in enumerate(self._ends):
            if not end.poll(300):
                raise TimeoutError(f"process {rank} does not answer")
            try:
                ok, result = end.recv()
            except EOFError:
                ok, result = False, "gone without a word"
            if not ok:
                raise AssertionError(f"process {rank}: {result}\n{self._ended()}")
            results.append(result)
        return results

    def _ended(self) -> str:
        """Which processes have ended, and how: what one says of a lost connection does not tell why it was lost."""
        for process in self._processes:
            process.join(1)
        codes = {rank: process.exitcode for rank, process in enumerate(self._processes)}
        return f"exit codes, None where it lives: {codes}"

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(10)
            process.kill()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _serve(end: Connection, rank: int, size: int, port: int, patience: float | None) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    import torch

    from eventide.engine import rendezvous
    from eventide.engine.processes import Launch

    if patience is not None:
        rendezvous.PATIENCE = timedelta(seconds=patience)
    torch.set_num_threads(1)
    with rendezvous.joined(Launch("torchrun", rank, size, rank, size), "cpu", 120) as world:
        while True:
            try:
                work, arguments = end.recv()
            except EOFError:
                return
            try:
                end.send((True, work(world, *arguments)))
            except BaseException as error:  # the test wants to see it, whatever it is
                end.send((False, "".join(traceback.format_exception(error))))
