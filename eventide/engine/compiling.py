"""Training through torch.compile: one graph per padded length, and no more.

The compiler makes a program for every shape it meets. So that there are few, batches are padded to a few lengths
(`loader.num_lengths`), a batch that is not full is filled up, and a mask is always given.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from eventide.types import EventideError, PyramidOutput, UsageError

# Padded lengths of a compiled training where `loader.num_lengths` says nothing: the first of these with which little is
# padded. Each costs a compilation, about a minute for a large model.
LENGTHS_TO_TRY = (8, 16, 24, 32)
LITTLE_PADDING = 0.15
# What turns graphs into programs. Tests take `aot_eager`, which has all of the machinery and no C++.
BACKEND = "inductor"
# Graphs that PyTorch keeps for one function beyond one per length: for precision and training mode.
SPARE_GRAPHS = 8

TURN_OFF = "or set train_cfg.compile: false"


class CompiledDetector:
    """A detector in training whose forward and backward passes are compiled.

    Compiles the module in place, so that its parameters keep their names. `detector` is the module or a wrapper that
    calls it; batches have `batch_size` sequences or fewer and one of a few lengths, at most `lengths`. `say` is told
    of each that is new, since it takes a while.
    """

    def __init__(
        self,
        detector: nn.Module,
        module: nn.Module,
        batch_size: int,
        lengths: int,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.detector, self.batch_size, self.say = detector, batch_size, say
        self.seen: set[int] = set()
        self._backend = CountingBackend(BACKEND)
        self._lengths, self._allowed = lengths, lengths + SPARE_GRAPHS
        allow_graphs(self._allowed)
        module.compile(backend=self._backend, dynamic=False)

    def __call__(self, features: Tensor, mask: Tensor | None) -> PyramidOutput:
        """As the detector: (B, C, T), (B, T) -> raw outputs of the B sequences."""
        count, length = features.shape[0], features.shape[-1]
        if length not in self.seen:
            self.seen.add(length)
            self.say(f"compiling for {length} vectors, length {len(self.seen)} (some seconds to a minute)")
        if mask is None:
            mask = torch.ones(count, length, dtype=torch.bool, device=features.device)
        output = self.detector(fill_up(features, self.batch_size), fill_up(mask, self.batch_size))
        return output if count == self.batch_size else first_sequences(output, count)

    def shrink(self, batch_size: int) -> None:
        """From now on batches have this many sequences; every length gets another graph."""
        self.batch_size = batch_size
        self._allowed += self._lengths
        allow_graphs(self._allowed)

    @property
    def graphs(self) -> int:
        """Graphs compiled so far."""
        return self._backend.graphs

    def summary(self) -> str:
        """How many graphs there are for how many lengths, for people."""
        return (
            f"compiled {self.graphs} graph(s) for {len(self.seen)} length(s): {', '.join(map(str, sorted(self.seen)))}"
        )


class CountingBackend:
    """A backend of torch.compile that counts the graphs it is given."""

    def __init__(self, name: str) -> None:
        from torch._dynamo.backends.registry import lookup_backend

        self._compile: Callable[..., Any] = lookup_backend(name)
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.graphs += 1
        return self._compile(graph, inputs)


def fill_up(x: Tensor, count: int) -> Tensor:
    """(B, ...) with B <= `count` to (`count`, ...) by repeating the first row.

    A copy of a real sequence rather than an empty one: attention without any key would make NaN of its gradients.
    """
    missing = count - x.shape[0]
    return x if missing <= 0 else torch.cat((x, x[:1].expand(missing, *x.shape[1:])))


def first_sequences(output: PyramidOutput, count: int) -> PyramidOutput:
    """The outputs of the first `count` sequences; no gradient reaches the others."""
    return replace(output.map(lambda x: x[:count]), masks=[x[:count] for x in output.masks])


def allow_graphs(count: int) -> None:
    """Let PyTorch keep `count` graphs of one function; beyond its own limit of 8 it would go on uncompiled."""
    from torch._dynamo import config

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, name, max(count, getattr(config, name)))


def refuse_without_compiler(device: torch.device) -> None:
    """Raise UsageError where torch.compile cannot work on this machine; says what is missing."""
    if BACKEND != "inductor":
        return
    if device.type == "cpu":
        cxx = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        if shutil.which(cxx.split()[0]) is None:
            raise UsageError(
                f"train_cfg.compile: torch.compile on a CPU needs a C++ compiler, and there is no {cxx} here; install "
                f"one (Debian and Ubuntu: apt install g++) or name it in CXX, {TURN_OFF}"
            )
    elif device.type == "cuda":
        if find_spec("triton") is None:
            raise UsageError(f"train_cfg.compile: torch.compile needs triton on a GPU; pip install triton, {TURN_OFF}")
        compilers = [os.environ["CC"].split()[0]] if os.environ.get("CC") else ["gcc", "clang"]
        if not any(map(shutil.which, compilers)):
            raise UsageError(
                f"train_cfg.compile: torch.compile needs a C compiler, and there is no {' or '.join(compilers)} here; "
                f"install one (Debian and Ubuntu: apt install gcc) or name it in CC, {TURN_OFF}"
            )
    else:
        raise UsageError(f"train_cfg.compile: not for device {device.type}; choose another device {TURN_OFF}")


def compile_failure(error: BaseException) -> EventideError | None:
    """What to say where the compiler itself failed; None for any other error."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    inner = getattr(error, "inner_exception", None) or error
    first, *others = [line.strip() for line in str(inner).splitlines() if line.strip()] or ["no message"]
    detail = next((f" ({line})" for line in others if "error:" in line.lower() or "killed" in line.lower()), "")
    return EventideError(
        f"torch.compile failed: {type(inner).__name__}: {first}{detail}; set train_cfg.compile: false "
        "(TORCHDYNAMO_VERBOSE=1 shows what went wrong)"
    )
