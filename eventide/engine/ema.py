"""Moving average of the weights, the ones that are evaluated and kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a module whose weights follow those of the module in training.

    After the n-th update (n = 0 is the first) average = decay * average + (1 - decay) * weights, where decay is
    min(limit, (1 + n) / (10 + n)) with the ramp and the limit without. On a small data set a constant 0.999 would keep
    the average near the initial weights for the whole training.
    """

    def __init__(self, module: nn.Module, limit: float, ramp: bool) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.limit, self.ramp, self.updates = limit, ramp, 0
        self.follow(module)

    def follow(self, module: nn.Module) -> None:
        """From now on follow the weights where `module` has them at present."""
        self._averages, self._weights = self.tensors_of(self.module), self.tensors_of(module)
        self._buffers = list(zip(self.module.buffers(), module.buffers(), strict=True))

    def tensors_of(self, module: nn.Module) -> list[Tensor]:
        """What is averaged of a module, as views: they see every later step."""
        return [parameter.detach() for parameter in module.parameters()]

    @property
    def whole(self) -> nn.Module:
        """The averaged model for this process alone, while it is `gathered`."""
        return self.module

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """All processes enter and leave together; meanwhile each may use `whole` as it likes."""
        yield

    def decay(self) -> float:
        """Decay of the next update."""
        return min(self.limit, (1 + self.updates) / (10 + self.updates)) if self.ramp else self.limit

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's present weights; buffers are copied."""
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - self.decay())
        for average, buffer in self._buffers:
            average.copy_(buffer)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and the number of updates so far."""
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self.updates = int(state["updates"])
