"""How a step is shared by processes: every recording once, and nobody idle who could work."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.steps import Share


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 20), st.booleans())
def test_every_recording_is_done_once(sizes: list[int], processes: int, equal: bool) -> None:
    order = np.random.default_rng(0).permutation(sum(sizes))
    batches = np.split(order, np.cumsum(sizes)[:-1])
    shares = [Share(rank, processes, equal).of(batches) for rank in range(processes)]
    counted = [piece for share in shares for piece in share if piece.counts]
    assert sorted(int(index) for piece in counted for index in piece.samples) == list(range(len(order)))
    assert len({piece.number for piece in counted}) == len(counted)
    working = sum(any(piece.counts for piece in share) for share in shares)
    assert working == min(processes, len(order))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= (0 if equal else 1)
    if len(batches) >= processes:  # whole batches, as they are
        assert sorted(len(piece.samples) for piece in counted) == sorted(sizes)
