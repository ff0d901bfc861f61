"""Which recordings make a batch: everyone once per epoch, the same for one seed, little padding, ever new company."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.config import LoaderConfig
from eventide.data.batching import BatchPlan, best_lengths, count_batches, padded_length
from eventide.types import EventideError

MAX_SEQ_LEN = 2304


class Lengths:
    """A data set of which only the lengths are known; with `crop`, each epoch keeps a random share of them."""

    def __init__(self, lengths: Any, seed: int = 0, crop: float = 1.0, max_seq_len: int = MAX_SEQ_LEN) -> None:
        self.lengths = [int(length) for length in lengths]
        self.seed, self.crop, self.max_seq_len = seed, crop, max_seq_len

    def __len__(self) -> int:
        return len(self.lengths)

    def sample_length(self, index: int, epoch: int) -> int:
        if self.crop == 1.0:
            return min(self.max_seq_len, self.lengths[index])
        share = np.random.default_rng((self.seed, epoch, index)).uniform(self.crop, 1.0)
        return min(self.max_seq_len, max(1, round(share * self.lengths[index])))

    def longest_sample(self) -> int:
        return min(self.max_seq_len, max(self.lengths))


def plan_for(data: Lengths, **loader: Any) -> BatchPlan:
    return BatchPlan.of(data, LoaderConfig(**loader))  # type: ignore[arg-type]


def log_normal(count: int, seed: int = 0) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(6.0, 1.0, count)) + 1


def pareto(count: int, seed: int = 0) -> np.ndarray:
    return 100 * (1 + np.random.default_rng(seed).pareto(1.5, count))


STEPS = [
    pytest.param(7, 2, False, 4, id="a smaller batch"),
    pytest.param(7, 2, True, 3, id="left out"),
    pytest.param(8, 2, True, 4, id="divides"),
    pytest.param(1, 4, False, 1, id="one small batch"),
    pytest.param(1, 4, True, None, id="no batch at all"),
    pytest.param(0, 4, False, None, id="no recordings"),
]


@pytest.mark.parametrize(("count", "batch_size", "drop_last", "steps"), STEPS)
def test_batches_of_an_epoch(count: int, batch_size: int, drop_last: bool, steps: int | None) -> None:
    if steps is None:
        with pytest.raises(EventideError, match="an epoch has no batch"):
            count_batches(count, batch_size, drop_last)
    else:
        assert count_batches(count, batch_size, drop_last) == steps


ways = st.sampled_from(["longest", "bucketed", "fixed"])


@given(
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=200),
    batch_size=st.integers(1, 9),
    drop_last=st.booleans(),
    way=ways,
    num_lengths=st.none() | st.integers(1, 6),
    crop=st.sampled_from([1.0, 0.5]),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 10**6),
)
def test_every_recording_comes_once_per_epoch(
    lengths: list[int],
    batch_size: int,
    drop_last: bool,
    way: str,
    num_lengths: int | None,
    crop: float,
    seed: int,
    epoch: int,
) -> None:
    count = len(lengths)
    if drop_last and count < batch_size:
        drop_last = False
    num_lengths = None if way == "fixed" else num_lengths
    settings = {"batch_size": batch_size, "drop_last": drop_last, "batching": way, "num_lengths": num_lengths}
    plan = plan_for(Lengths(lengths, seed, crop), **settings)
    batches = plan.batches(epoch)
    assert len(batches) == plan.batches_per_epoch
    visited = [int(index) for batch in batches for index in batch]
    assert len(set(visited)) == len(visited) == (count // batch_size * batch_size if drop_last else count)
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[1:] == [batch_size] * (len(batches) - 1)
    assert sizes[0] == (count % batch_size or batch_size if not drop_last else batch_size)
    again = plan_for(Lengths(lengths, seed, crop), **settings).batches(epoch)  # nothing is remembered from elsewhere
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
    assert 0 <= plan.padding_share(epoch) < 1
    longest = max(int(plan.sample_lengths(epoch)[batch].max()) for batch in batches)
    assert longest <= padded_length(longest, plan.lengths) <= MAX_SEQ_LEN


@pytest.mark.parametrize("batch_size", [2, 4, 8, 16])
@pytest.mark.parametrize("draw", [log_normal, pareto])
def test_similar_lengths_waste_little(draw: Any, batch_size: int) -> None:
    lengths = draw(2000)
    for crop in (1.0, 0.9):
        data = Lengths(lengths, crop=crop)
        shares = {way: plan_for(data, batch_size=batch_size, batching=way) for way in ("longest", "bucketed", "fixed")}
        random, similar, fixed = (plan.padding_share(3) for plan in shares.values())
        assert similar < 0.15
        assert random > 0.25
        assert fixed > random


def test_a_few_padded_lengths_cost_little_more() -> None:
    data = Lengths(log_normal(2000))
    shares = [plan_for(data, batching="bucketed", num_lengths=n).padding_share(5) for n in (None, 16, 8, 4, 1)]
    assert shares == sorted(shares)
    assert shares[1] < 0.15 < 2 * shares[2] < 0.4
    assert shares[4] == plan_for(data, batching="fixed").padding_share(5)


def test_fixed_is_the_training_length() -> None:
    assert plan_for(Lengths([5, 9]), batching="fixed").lengths == (MAX_SEQ_LEN,)
    assert plan_for(Lengths([5, 9])).lengths == ()


def test_batches_come_in_random_order() -> None:
    data = Lengths(log_normal(600))
    plan = plan_for(data, batching="bucketed", batch_size=4)
    sizes = np.array(data.lengths).clip(max=MAX_SEQ_LEN)
    longest = np.array([[sizes[batch].max() for batch in plan.batches(epoch)] for epoch in range(40)])
    halves = longest[:, :75].mean(), longest[:, 75:].mean()
    assert halves[0] == pytest.approx(halves[1], rel=0.05)
    steps = np.abs(np.diff(np.log(longest), axis=1)).mean()
    shuffled = np.abs(np.diff(np.log(np.random.default_rng(0).permuted(longest, axis=1)), axis=1)).mean()
    assert steps == pytest.approx(shuffled, rel=0.05)


COMPANY = [
    pytest.param(log_normal(40), 2, 4, id="few recordings of a long tail"),
    pytest.param(log_normal(400), 2, 15, id="many recordings"),
    pytest.param(np.full(40, 5000), 2, 20, id="all cut to one length"),
]


@pytest.mark.parametrize(("lengths", "batch_size", "least"), COMPANY)
def test_recordings_meet_others_every_epoch(lengths: np.ndarray, batch_size: int, least: int) -> None:
    plan = plan_for(Lengths(lengths), batching="bucketed", batch_size=batch_size)
    epochs = 50
    company: dict[int, Counter[int]] = {index: Counter() for index in range(len(lengths))}
    for epoch in range(epochs):
        for batch in plan.batches(epoch):
            for index in batch.tolist():
                company[index].update(other for other in batch.tolist() if other != index)
    assert np.median([len(met) for met in company.values()]) >= least


def test_no_length_is_left_out_or_in_the_small_batch_more_often() -> None:
    lengths = np.arange(10, 110, 10)
    for drop_last in (False, True):
        plan = plan_for(Lengths(lengths), batching="bucketed", batch_size=4, drop_last=drop_last)
        rare: Counter[int] = Counter()
        for epoch in range(1000):
            batches = plan.batches(epoch)
            small = [index for batch in batches if len(batch) < 4 for index in batch.tolist()]
            rare.update(set(range(10)) - {i for b in batches for i in b.tolist()} if drop_last else small)
        expected = 1000 * 2 / 10
        # The small batch holds neighbours in length, of which the shortest and the longest have half as many.
        assert all(0.5 * expected < rare[index] < 1.6 * expected for index in range(10)), rare


BEST = [
    pytest.param([8, 8, 80], [1, 1, 1], 2, 80, (8, 80), id="two groups"),
    pytest.param([8, 8, 80], [1, 1, 1], 1, 80, (80,), id="one length holds all"),
    pytest.param([8, 16, 80], [1, 9, 1], 2, 80, (16, 80), id="the heavier group"),
    pytest.param([9, 80], [1, 1], 2, 80, (16, 80), id="rounded up"),
    pytest.param([77], [1], 3, 77, (77,), id="never above the limit"),
    pytest.param([8], [1], 3, 77, (8, 77), id="room for the longest of other epochs"),
    pytest.param([8, 16, 24], [1, 1, 1], 9, 24, (8, 16, 24), id="more than are needed"),
    pytest.param([40, 40], [2, 2], 4, 40, (40,), id="all equal"),
]


@pytest.mark.parametrize(("longest", "weights", "count", "limit", "expected"), BEST)
def test_best_lengths(
    longest: list[int], weights: list[int], count: int, limit: int, expected: tuple[int, ...]
) -> None:
    assert best_lengths(np.array(longest), np.array(weights), count, limit) == expected


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 4))
def test_best_lengths_are_the_best(eighths: list[int], count: int) -> None:
    longest, limit = np.array(eighths) * 8, 48
    weights = np.ones(len(longest), dtype=int)

    def cost(lengths: tuple[int, ...]) -> int:
        return sum(padded_length(int(value), lengths) for value in longest)

    choices = [(*inner, limit) for size in range(count) for inner in combinations(range(8, limit, 8), min(size, 5))]
    found = best_lengths(longest, weights, count, limit)
    assert list(found) == sorted(set(found))
    assert len(found) <= count
    assert cost(found) == min(cost(choice) for choice in choices)


def test_very_long_sequences_take_a_coarser_grain() -> None:
    longest = np.random.default_rng(0).integers(1, 100_000, 5000)
    found = best_lengths(longest, np.ones(5000), 8, 100_000)
    assert len(found) == 8
    assert found[-1] == 100_000


def test_padded_length_has_an_end() -> None:
    assert padded_length(7, ()) == 7
    assert padded_length(8, (8, 16)) == 8
    with pytest.raises(ValueError, match="a sample of 17 vectors does not fit into a batch of 16"):
        padded_length(17, (8, 16))
