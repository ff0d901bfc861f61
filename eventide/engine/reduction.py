"""Gradients of all processes added up, once per optimiser step, while the last backward pass still runs.

PyTorch's DistributedDataParallel does the same for processes that all do equally many passes and never fail within one.
Here a process may do more passes than another, or none, and start its step again when memory runs out: others wait.
The buckets are cut and sent in an order that depends on the model alone, so a run that was resumed sums to the bit as
one that was not. Why not DistributedDataParallel: docs/decisions/010-many-processes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from eventide.engine.optim import gradient_norm

BUCKET_BYTES = 25 * 2**20  # what one message holds: enough to be worth its latency, little enough to start early


class Reduction(Protocol):
    """How gradients become those of the whole step."""

    def restart(self) -> None:
        """Before the passes of a step, also when they are done again."""

    def last_pass(self, is_last: bool) -> None:
        """Before each backward pass: after the last one nothing is added any more."""

    def finish(self) -> None:
        """Return once the gradients are those of all processes."""

    def norm(self, optimizer: Optimizer) -> Tensor:
        """Total L2 norm of the gradients, after `finish`; the host does not wait for it."""
        return gradient_norm(optimizer)


class NoReduction(Reduction):
    """One process: its gradients are all there are."""

    def restart(self) -> None: ...

    def last_pass(self, is_last: bool) -> None: ...

    def finish(self) -> None: ...


class GradientSum(Reduction):
    """Sums the gradients of `parameters`, which are the same in every process, in the same order."""

    def __init__(self, parameters: Sequence[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
        # Gradients are ready in about the opposite order of use.
        self.buckets = cut_into_buckets(list(reversed(parameters)), bucket_bytes)
        self._bucket_of = {id(p): number for number, bucket in enumerate(self.buckets) for p in bucket}
        self._armed = False
        self._sent: list[tuple[Tensor, dist.Work]] = []
        self._missing = [len(bucket) for bucket in self.buckets]
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._on_gradient)

    def restart(self) -> None:
        """Forget what is not on its way yet; what is was complete, and stays."""
        self._armed = False
        self._missing = [len(bucket) for bucket in self.buckets]

    def last_pass(self, is_last: bool) -> None:
        self._armed = is_last

    def _on_gradient(self, parameter: Tensor) -> None:
        """Send every bucket whose gradients are complete, always in the same order."""
        if not self._armed:
            return
        self._missing[self._bucket_of[id(parameter)]] -= 1
        while len(self._sent) < len(self.buckets) and self._missing[len(self._sent)] <= 0:
            self._send()

    def _send(self) -> None:
        bucket = self.buckets[len(self._sent)]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        self._sent.append((flat, dist.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """Wait for all sums; `grad` of every parameter is then a view of them."""
        self._armed = False
        while len(self._sent) < len(self.buckets):
            self._send()
        for (flat, work), bucket in zip(self._sent, self.buckets, strict=True):
            work.wait()
            parts = flat.split([parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)
        self._sent.clear()


def cut_into_buckets(parameters: Sequence[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """Neighbours of one number type, as many as fit into `bucket_bytes`, at least one."""
    buckets: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        nbytes = parameter.numel() * parameter.element_size()
        if not buckets or size + nbytes > bucket_bytes or buckets[-1][0].dtype != parameter.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += nbytes
    return buckets
