"""Which recordings make which training batch, and how long it is: pure functions of (seed, epoch), without any feature.

Batches of similar length waste little on padding. They are made so that who meets whom still changes from epoch to
epoch: the epoch is shuffled, cut into pools, each pool sorted by lengths that are blurred a little, cut into batches,
and the batches of all pools are shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from eventide.config import LoaderConfig
from eventide.data.augment import ORDER_STREAM, generator_for
from eventide.data.dataset import EventDataset
from eventide.types import EventideError

# Batches sorted together. Long tails need many: the longest recordings of a pool share the pool's worst batch.
POOL_BATCHES = 64
# Half width of the blur on the logarithm of a length: recordings within some 20% of each other may change places.
BLUR = 0.1
# Padded lengths are multiples of this, which suits matrix kernels in every precision.
GRAIN = 8
# Lengths that are tried as padded lengths, at most; longer sequences take a coarser grain.
MOST_TRIED = 1024

Batching = Literal["longest", "bucketed", "fixed"]


@dataclass(frozen=True)
class BatchPlan:
    """The training batches of every epoch.

    `sample_lengths(epoch)` gives the vectors of each sample in that epoch, (count,) int64, and `longest_sample()` the
    most that any epoch may have; both read no features. `num_lengths` is how many padded lengths there may be, None
    for any number; `batches_per_step` how many batches make an optimiser step, on however many processes.
    """

    count: int
    batch_size: int
    drop_last: bool
    seed: int
    batching: Batching
    num_lengths: int | None
    max_seq_len: int
    sample_lengths: Callable[[int], np.ndarray]
    longest_sample: Callable[[], int]
    batches_per_step: int = 1

    @classmethod
    def of(cls, dataset: EventDataset, loader: LoaderConfig, batches_per_step: int = 1) -> BatchPlan:
        """The plan for a training data set."""
        return cls(
            len(dataset),
            loader.batch_size,
            loader.drop_last,
            dataset.seed,
            loader.batching,
            loader.num_lengths,
            dataset.max_seq_len,
            lambda epoch: np.array([dataset.sample_length(index, epoch) for index in range(len(dataset))]),
            dataset.longest_sample,
            batches_per_step,
        )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of one epoch. `EventideError` when there is none."""
        return count_batches(self.count, self.batch_size, self.drop_last)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch: one has fewer batches where `batches_per_step` does not divide them."""
        return -(-self.batches_per_epoch // self.batches_per_step)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The sample indices of each batch of an epoch, in order.

        Every sample comes once; with `drop_last` a random few are left out where the batch size does not divide their
        number, else one batch is smaller.
        """
        return [batch for step in self.steps(epoch) for batch in step]

    def steps(self, epoch: int) -> list[list[np.ndarray]]:
        """The batches of each optimiser step of an epoch. With `bucketed`, those of one step are of similar length,
        so that processes that share it take equally long.
        """
        if epoch not in self._steps:
            for old in list(self._steps)[:-1]:  # two epochs: the loader is ahead of the step
                del self._steps[old]
            self._steps[epoch] = self._make_steps(epoch)
        return self._steps[epoch]

    @cached_property
    def _steps(self) -> dict[int, list[list[np.ndarray]]]:
        return {}

    def _make_steps(self, epoch: int) -> list[list[np.ndarray]]:
        rng = generator_for(self.seed, ORDER_STREAM, epoch)
        order = rng.permutation(self.count)
        if self.drop_last:
            order = order[: self.batches_per_epoch * self.batch_size]
        size = self.batch_size * self.batches_per_step
        if self.batching == "bucketed":
            steps = similar_batches(order, self.sample_lengths(epoch), size, rng)
        else:
            steps = _cut(order, size)
        return [_cut(step, self.batch_size) for step in steps]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that batches are padded to, rising; empty where each is padded to its own longest sample."""
        if self.batching == "fixed":
            return (self.max_seq_len,)
        if self.num_lengths is None:
            return ()
        sizes = self.sample_lengths(0)
        batches = self.batches(0)
        longest = np.array([sizes[batch].max() for batch in batches])
        weights = np.array([len(batch) for batch in batches])
        return best_lengths(longest, weights, self.num_lengths, self.longest_sample())

    def padding_share(self, epoch: int) -> float:
        """Share of the vectors of an epoch's batches that is padding, from 0 to 1."""
        if epoch not in self._shares:
            self._shares[epoch] = self._padding_share(epoch)
        return self._shares[epoch]

    @cached_property
    def _shares(self) -> dict[int, float]:
        return {}

    def _padding_share(self, epoch: int) -> float:
        sizes = self.sample_lengths(epoch)
        batches = self.batches(epoch)
        padded = sum(len(batch) * padded_length(int(sizes[batch].max()), self.lengths) for batch in batches)
        return 1.0 - sum(int(sizes[batch].sum()) for batch in batches) / padded


def count_batches(dataset_len: int, batch_size: int, drop_last: bool) -> int:
    """Batches of one epoch. `EventideError` when there is none."""
    steps = dataset_len // batch_size if drop_last else -(-dataset_len // batch_size)
    if steps == 0:
        raise EventideError(
            f"an epoch has no batch: {dataset_len} recording(s), loader.batch_size {batch_size}, "
            f"loader.drop_last {str(drop_last).lower()}; lower the batch size or set drop_last to false"
        )
    return steps


def padded_length(longest: int, lengths: Sequence[int]) -> int:
    """The first of the rising `lengths` that holds a batch whose longest sample has `longest` vectors.

    `longest` itself where `lengths` is empty.

    Raises:
        ValueError: none of them is long enough.
    """
    for length in lengths:
        if length >= longest:
            return length
    if lengths:
        raise ValueError(f"a sample of {longest} vectors does not fit into a batch of {lengths[-1]}")
    return longest


def similar_batches(
    order: np.ndarray, lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches of similar length in random order from samples in random `order`, (N,) indices into `lengths`.

    A batch that is not full has members of any length, not always the longest.
    """
    blurred = np.log(np.maximum(lengths, 1)) + rng.uniform(-BLUR, BLUR, size=len(lengths))
    batches: list[np.ndarray] = []
    size = POOL_BATCHES * batch_size
    for start in range(0, len(order), size):
        pool = order[start : start + size]
        pool = pool[np.argsort(blurred[pool], kind="stable")]
        if rest := len(pool) % batch_size:
            first = int(rng.integers(len(pool) - rest + 1))
            batches.append(pool[first : first + rest])
            pool = np.delete(pool, slice(first, first + rest))
        batches += _cut(pool, batch_size)
    return [batches[index] for index in rng.permutation(len(batches))]


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Pieces of `size`, the last one smaller where they do not divide the whole."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def best_lengths(longest: np.ndarray, weights: np.ndarray, count: int, limit: int) -> tuple[int, ...]:
    """At most `count` rising lengths, the last of them `limit`, for which padding is least.

    `longest` (K,) are the longest samples of batches, at most `limit`, `weights` (K,) the sequences of each.
    """
    grain = max(GRAIN, -(-limit // MOST_TRIED))
    rounded = np.minimum(-(-longest // grain) * grain, limit)
    tried = np.unique([*rounded, limit])
    total = np.zeros(len(tried) + 1)  # sequences that are no longer than the first so many lengths
    np.add.at(total, np.searchsorted(tried, rounded) + 1, weights)
    total = total.cumsum()
    # cost[i, j]: vectors computed for batches longer than tried[i - 1] when they are padded to tried[j - 1].
    cost = (total[None, :] - total[:, None]) * np.concatenate(([0], tried))[None, :]
    cost[np.tril_indices(len(tried) + 1, -1)] = np.inf
    best, came_from = cost[0], []
    for _ in range(min(count, len(tried)) - 1):
        through = best[:, None] + cost
        came_from.append(through.argmin(axis=0))
        best = through.min(axis=0)
    chosen, last = [limit], len(tried)
    for origin in reversed(came_from):
        last = int(origin[last])
        if last > 0 and int(tried[last - 1]) < chosen[-1]:
            chosen.append(int(tried[last - 1]))
    return tuple(reversed(chosen))
