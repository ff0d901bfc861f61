"""Which part of a training step a process does: a pure function, so that nobody has to be asked.

A step is a set of recordings, cut into batches. Gradients are sums over recordings, so however a step is cut over
processes, they add up to the same; that is what lets a run go on with more or fewer processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eventide.data.batching import BatchPlan


class Piece(NamedTuple):
    """A micro-batch of a step: its number within the step, the indices of its samples, and whether they count."""

    number: int
    samples: np.ndarray
    counts: bool = True


class Share(NamedTuple):
    """One process of several, and whether all of them must do equally many pieces (where they hold parts of the model
    and compute together); those that have fewer then repeat one that does not count.
    """

    rank: int = 0
    size: int = 1
    equal: bool = False

    def of(self, batches: Sequence[np.ndarray]) -> list[Piece]:
        """The pieces of a step of `batches` that this process does: none where there are fewer recordings than
        processes.

        Where a step has fewer batches than there are processes, its recordings are dealt out evenly.
        """
        parts = list(batches)
        if len(parts) < self.size:
            parts = [part for part in np.array_split(np.concatenate(parts), self.size) if len(part)]
        pieces = [Piece(number, parts[number]) for number in range(self.rank, len(parts), self.size)]
        if self.equal and len(pieces) < -(-len(parts) // self.size):
            pieces.append(Piece(len(parts) + self.rank, parts[0][:1], counts=False))
        return pieces


ALONE = Share()


def step_pieces(plan: BatchPlan, share: Share, first_step: int = 0) -> Iterator[tuple[int, list[Piece]]]:
    """The epoch and the pieces of steps `first_step`, `first_step` + 1, ... without end."""
    epoch, within = divmod(first_step, plan.steps_per_epoch)
    while True:
        for batches in plan.steps(epoch)[within:]:
            yield epoch, share.of(batches)
        epoch, within = epoch + 1, 0
