"""What the criteria of all architectures share: sums over a batch, divided once by a running number of events.

A training step may be cut into micro-batches on several processes. Sums add up over them; what is divided by, and how
the parts are weighted, is then decided once for the whole step (`eventide.engine.gradients`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from eventide.types import PyramidOutput

COUNT = "num_positives"
PER_CLASS = "learnt_per_class"


class SummedCriterion(nn.Module, ABC):
    """Loss parts of a batch. The running mean of the number of learnt positions per step is the buffer
    `loss_normalizer`, which all parts are divided by.
    """

    parts: tuple[str, ...]  # names of the loss parts
    num_classes: int
    loss_normalizer: Tensor

    def __init__(self, initial_normalizer: float, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("loss_normalizer", torch.tensor(float(initial_normalizer)))

    @property
    def balances(self) -> bool:
        """Whether the weights of the parts depend on their values."""
        return False

    @abstractmethod
    def sums(
        self,
        output: PyramidOutput,
        events: Tensor,
        label_ids: Tensor,
        teacher: PyramidOutput | None = None,
        teacher_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """Scalars: every loss part summed over the batch, and `num_positives`, the number of learnt positions; also
        `learnt_per_class` (classes,), how many positions learn each class.

        `events` (B, G, 2) on the feature grid, `label_ids` (B, G), -1 where a row is no event. Where there is a
        `teacher`, the averaged model's output, its boundaries make up `teacher_share` of the targets.
        """

    @abstractmethod
    def weights(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """Weight of every loss part in the final loss; `parts` are those of the whole step, divided."""

    def forward(
        self,
        output: PyramidOutput,
        events: Tensor,
        label_ids: Tensor,
        teacher: PyramidOutput | None = None,
        teacher_share: float = 0.0,
    ) -> dict[str, Tensor]:
        """The losses of a step that is one batch; arguments as those of `sums`.

        Returns scalars: every part divided, `final_loss` (to differentiate), `num_positives`. In training mode the
        normaliser moves first, as published.
        """
        sums = self.sums(output, events, label_ids, teacher, teacher_share)
        count = sums.pop(COUNT)
        sums.pop(PER_CLASS)
        if self.training:
            self.move_normalizer(count)
        parts = {name: value / self.loss_normalizer for name, value in sums.items()}
        return {**parts, "final_loss": self.final_loss(parts, self.weights(parts)), COUNT: count}

    @staticmethod
    def final_loss(parts: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]) -> Tensor:
        """The weighted sum of the parts."""
        first, *others = (value * weights[name] for name, value in parts.items())
        return sum(others, first)

    @torch.no_grad()
    def moved_normalizer(self, count: Tensor) -> Tensor:
        """The normaliser after a step with `count` learnt positions, which count as at least 1."""
        current = count.clamp(min=1).to(self.loss_normalizer.dtype)
        return self.loss_normalizer * self.momentum + (1 - self.momentum) * current

    def move_normalizer(self, count: Tensor) -> None:
        """Let the normaliser be that after a step."""
        self.loss_normalizer.copy_(self.moved_normalizer(count))
