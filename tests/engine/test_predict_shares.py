"""engine/predict_shares.py: every piece has one process, and nobody has much more than the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.engine.predict_shares import share_out


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(1, 9))
def test_every_piece_has_one_process_and_nobody_has_much_more(costs: list[int], processes: int) -> None:
    shares = share_out(costs, processes)
    assert len(shares) == processes
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    assert shares == share_out(list(costs), processes)
    loads = [sum(costs[index] for index in share) for share in shares]
    assert max(loads) <= sum(costs) / processes + max(costs, default=0)


@pytest.mark.parametrize(
    ("costs", "processes", "shares"),
    [
        pytest.param([], 2, [[], []], id="nothing"),
        pytest.param([5], 3, [[0], [], []], id="one piece"),
        pytest.param([1, 1, 1, 1], 2, [[0, 2], [1, 3]], id="ties go round"),
        pytest.param([3, 5, 4, 2, 2], 2, [[1, 3, 4], [0, 2]], id="longest first"),
        pytest.param([10, 1, 1, 1], 2, [[0], [1, 2, 3]], id="one long"),
        pytest.param([2, 1], 1, [[0, 1]], id="one process"),
    ],
)
def test_shares(costs: list[int], processes: int, shares: list[list[int]]) -> None:
    assert share_out(costs, processes) == shares
