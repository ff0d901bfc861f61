"""layers/position.py: sinusoids after the formula, and how they stretch to a longer canvas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from eventide.layers.position import place_positions, sinusoid_table


@pytest.mark.parametrize(("length", "channels"), [(1, 2), (7, 6), (50, 8), (3, 1), (4, 5)])
def test_table(length: int, channels: int) -> None:
    table = sinusoid_table(length, channels)
    assert table.shape == (length, channels)
    assert table.dtype == torch.float32
    for position in range(length):
        for channel in range(channels):
            angle = position / 10000 ** (2 * (channel // 2) / channels)
            value = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[position, channel].item() == pytest.approx(value / math.sqrt(channels), abs=1e-7)


def test_table_is_accurate_far_out() -> None:
    assert sinusoid_table(100_001, 4)[-1, 0].item() == pytest.approx(math.sin(100_000) / 2, abs=1e-6)


@pytest.mark.parametrize("length", [1, 5, 8])
def test_up_to_its_length_the_table_is_used_as_it_is(length: int) -> None:
    table = sinusoid_table(8, 4)
    found = place_positions(table, torch.tensor([length, 8]), length)
    assert torch.equal(found, table[None, :length])


@pytest.mark.parametrize("canvas", [9, 12, 16, 31, 64])
def test_longer_canvas_stretches_the_table(canvas: int) -> None:
    table = sinusoid_table(8, 4)
    expected = F.interpolate(table.t()[None], canvas, mode="linear", align_corners=False).transpose(1, 2)
    found = place_positions(table, torch.tensor([canvas]), canvas)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    shorter = place_positions(table, torch.tensor([canvas]), 9)  # only part of the canvas is computed
    torch.testing.assert_close(shorter, expected[:, :9], rtol=1e-5, atol=1e-6)


def test_each_sequence_stretches_to_its_own_canvas() -> None:
    table, lengths = sinusoid_table(8, 4), [20, 5, 8, 13]
    found = place_positions(table, torch.tensor(lengths), 20)
    assert found.shape == (4, 20, 4)
    for row, length in enumerate(lengths):
        alone = place_positions(table, torch.tensor([length]), length)[0]
        torch.testing.assert_close(found[row, :length], alone, rtol=1e-6, atol=1e-6)
