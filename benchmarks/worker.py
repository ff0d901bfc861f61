"""Both sides of a benchmark in processes of their own, told what to do by one JSON line each.

So memory is measured apart, and neither side meets the other's settings or caches.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any


class Worker:
    """A side of the benchmark in its own process."""

    def __init__(self, module: str, *arguments: str) -> None:
        words = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def __call__(self, command: dict[str, Any]) -> dict[str, Any]:
        """What the side answers to a command."""
        stdin = self.process.stdin
        if stdin is None:
            raise RuntimeError("the worker has no standard input")
        stdin.write(json.dumps(command) + "\n")
        stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        if self.process.stdout is None:
            raise RuntimeError("the worker has no standard output")
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        sys.exit("error: a worker of the benchmark ended; its message is above")


def serve(worker: Any) -> None:
    """In the process of a side: run the methods of `worker` that standard input names, until it ends."""
    _answer({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if hasattr(worker, "prepare"):
            worker.prepare(**command)
        work = getattr(worker, command.pop("work"))
        start = time.perf_counter()
        result = work(**command)
        taken = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _answer({"seconds": taken, "result": result, "peak_mib": peak})


def _answer(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)
