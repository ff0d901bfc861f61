"""ops/window_blocks.py: cutting and putting together, against loops over positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.ops.window_blocks import WindowBlocks, head_slices

CHANNELS = 6
CASES = [
    (batch, length, half)
    for batch in (1, 3)
    for half in (1, 4, 16, 20)
    for length in sorted({1, 2, half, 2 * half + 1, 31, 32, 33, 64, 100})
]
cases = pytest.mark.parametrize(("batch", "length", "half"), CASES)


def draw(batch: int, length: int, channels: int = CHANNELS) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, channels, generator=generator, dtype=torch.float64)


@cases
def test_sizes(batch: int, length: int, half: int) -> None:
    cut = WindowBlocks.of(draw(batch, length), half)
    assert cut.span == cut.size + 2 * half
    assert cut.size >= 2 * half  # a span overlaps with its neighbours only
    assert (cut.count - 1) * cut.size < length <= cut.count * cut.size
    assert cut.total == batch * cut.count


@cases
def test_putting_together_undoes_cutting(batch: int, length: int, half: int) -> None:
    x = draw(batch, length)
    cut = WindowBlocks.of(x, half)
    assert torch.equal(cut.restore(cut.flatten(x)), x)
    assert torch.equal(cut.restore_keys(cut.flatten_keys(x)), x)
    padded = cut.flatten_keys(x)
    assert padded.shape == (2 * half + cut.total * cut.size, CHANNELS)
    assert torch.equal(padded[:half], torch.zeros(half, CHANNELS))
    assert torch.equal(padded[padded.shape[0] - half :], torch.zeros(half, CHANNELS))


@cases
def test_spans_hold_the_neighbours_of_their_block(batch: int, length: int, half: int) -> None:
    x = draw(batch, length)
    cut = WindowBlocks.of(x, half)
    flat, padded = cut.flatten(x), cut.flatten_keys(x)
    for channels in (slice(0, 2), slice(2, 6)):
        blocks, spans = cut.blocks(flat, channels), cut.spans(padded, channels)
        assert spans.data_ptr() == padded[:, channels].data_ptr()  # a view
        for index in range(cut.total):
            start = index * cut.size
            assert torch.equal(blocks[index], flat[start : start + cut.size, channels])
            assert torch.equal(spans[index], padded[start : start + cut.span, channels])


@cases
def test_adding_spans_is_the_adjoint_of_cutting_them(batch: int, length: int, half: int) -> None:
    x = draw(batch, length)
    cut = WindowBlocks.of(x, half)
    padded = cut.flatten_keys(x)
    spans = cut.spans(padded, slice(0, CHANNELS))
    weights = torch.randn(spans.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    into = torch.zeros_like(padded)
    cut.add_spans(weights, into)
    torch.testing.assert_close((spans * weights).sum(), (padded * into).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ragged", [False, True], ids=["all valid", "ragged"])
@cases
def test_barrier(batch: int, length: int, half: int, ragged: bool) -> None:
    """Exactly the pairs of one sequence that are near and valid are open."""
    x = draw(batch, length)
    cut = WindowBlocks.of(x, half)
    ends = torch.tensor([length, max(length // 2, 1), 1][:batch])
    valid = torch.arange(length) < ends[:, None] if ragged else torch.ones(batch, length, dtype=torch.bool)
    barrier = cut.whole_barrier(valid if ragged else None, x)
    assert barrier.shape == (cut.total, cut.size, cut.span)
    assert ((barrier == 0) | (barrier < -1e100)).all()
    block, query, key = (barrier == 0).nonzero().unbind(1)
    row, start = block // cut.count, block % cut.count * cut.size
    kept = start + query < length  # queries beyond the end mean nothing
    found = torch.stack((row, start + query, start + key - half), dim=1)[kept]
    near = (torch.arange(length)[:, None] - torch.arange(length)).abs() <= half
    expected = (near & valid[:, None, :]).nonzero()
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))


def test_one_barrier_serves_all_sequences_without_padding() -> None:
    cut = WindowBlocks.of(draw(3, 100), 4)
    assert cut.barrier(None, draw(1, 1)).shape[0] == cut.count
    assert torch.equal(cut.whole_barrier(None, draw(1, 1)), cut.barrier(None, draw(1, 1)).repeat(3, 1, 1))


@pytest.mark.parametrize("half", [1, 4, 20])
def test_bias_by_distance(half: int) -> None:
    cut = WindowBlocks.of(draw(1, 100), half)
    bias = torch.arange(2 * half + 1.0)[None] - half  # the distance itself
    spread = cut.distance_bias(bias)[0]
    for query in range(cut.size):
        for key in range(cut.span):
            distance = key - half - query
            if abs(distance) <= half:
                assert spread[query, key] == distance


@pytest.mark.parametrize(("channels", "heads", "expected"), [(4, 1, [(0, 4)]), (6, 3, [(0, 2), (2, 4), (4, 6)])])
def test_head_slices(channels: int, heads: int, expected: list[tuple[int, int]]) -> None:
    assert [(part.start, part.stop) for part in head_slices(channels, heads)] == expected
