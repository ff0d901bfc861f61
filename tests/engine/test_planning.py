"""How a run is cut into steps: what the compiler is given."""

from __future__ import annotations

import numpy as np
import pytest

from eventide.data.batching import Batching, BatchPlan
from eventide.engine.compiling import LENGTHS_TO_TRY, LITTLE_PADDING
from eventide.engine.planning import with_few_lengths

GENERATOR = np.random.default_rng(0)
ALIKE = np.full(400, 700)
LOG_NORMAL = np.exp(GENERATOR.normal(np.log(400), 1.0, 2000)).astype(int).clip(1, 2304)
PARETO = (100 * (1 + GENERATOR.pareto(1.1, 2000))).astype(int).clip(1, 2304)
CASES = [
    pytest.param(ALIKE, "bucketed", 8, True, id="one length"),
    pytest.param(LOG_NORMAL, "bucketed", 16, True, id="log-normal"),
    pytest.param(PARETO, "bucketed", 16, True, id="Pareto"),
    pytest.param(PARETO, "longest", 8, False, id="random members, which pad whatever the lengths"),
]


@pytest.mark.parametrize(("lengths", "batching", "count", "is_little"), CASES)
def test_as_many_lengths_as_keep_padding_low(
    lengths: np.ndarray, batching: Batching, count: int, is_little: bool
) -> None:
    plan = BatchPlan(len(lengths), 8, False, 0, batching, None, 2304, lambda epoch: lengths, lambda: int(lengths.max()))
    few = with_few_lengths(plan)
    assert few.num_lengths == count
    assert count in LENGTHS_TO_TRY
    assert len(few.lengths) <= count
    assert (few.padding_share(0) < LITTLE_PADDING) == is_little
