"""layers/pieces.py: long sequences in pieces give the same as whole, and only where no gradient is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.layers import pieces
from eventide.layers.blocks import BlockStyle, ConvBlock, TransformerBlock
from eventide.layers.canvas import Canvas
from eventide.layers.pieces import in_overlapping_pieces
from eventide.ops.rope import rotation_table

ROWS, CHANNELS = 40, 8
LENGTHS = [1, 39, 79, 80, 81, 127, 160, 203]


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "ROWS_AT_ONCE", ROWS)


def draw(length: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, CHANNELS, generator=generator, dtype=torch.float64)


def canvases(length: int) -> Iterator[tuple[str, Canvas]]:
    """Nothing padded; ragged; a canvas that goes on beyond the valid positions."""
    rotation = rotation_table(length, CHANNELS // 2, torch.empty(0, dtype=torch.float64))
    positions = torch.arange(length)
    valid = positions < torch.tensor([length, (length + 1) // 2])[:, None]
    inside = positions < torch.tensor([length, (2 * length + 2) // 3])[:, None]
    yield "whole", Canvas(None, None, rotation)
    yield "ragged", Canvas(valid, valid, rotation)
    yield "margin", Canvas(valid, inside, rotation)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 2), (7, 3), (3, 4)])
@torch.no_grad()
def test_convolutions(kernel: int, stride: int, length: int) -> None:
    weight = torch.randn(5, CHANNELS, kernel, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    lengths: list[int] = []

    def step(x: Tensor, _: Canvas) -> Tensor:
        lengths.append(x.shape[1])
        return F.conv1d(x.transpose(1, 2), weight, stride=stride, padding=kernel // 2).transpose(1, 2)

    x = draw(length)
    found = in_overlapping_pieces(step, x, Canvas(None, None), reach=kernel // 2, stride=stride)
    assert (len(lengths) > 1) == (length >= 2 * ROWS)
    assert max(lengths) < 2 * ROWS + kernel + 2 * stride
    torch.testing.assert_close(found, step(x, Canvas(None, None)), rtol=1e-12, atol=1e-12)


STYLES = {
    "v1": BlockStyle(heads=2),
    "v2": BlockStyle(heads=2, shared_heads=1, rotary=True, gated=True, rms=True),
    "v2 without fused kernels": BlockStyle(heads=2, rotary=True, fused=False),
}


def blocks(window: int, stride: int) -> Iterator[tuple[str, torch.nn.Module]]:
    torch.manual_seed(0)
    for name, style in STYLES.items():
        yield name, TransformerBlock(CHANNELS, style, stride=stride, window=window)
    yield "convolutions", ConvBlock(CHANNELS, stride=stride, kernel=window)


@pytest.mark.parametrize("length", [81, 127, 203])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [3, 9, 19])
def test_blocks(window: int, stride: int, length: int) -> None:
    for name, block in blocks(window, stride):
        block.double().eval()
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        for kind, canvas in canvases(length):
            x = canvas.keep_inside(draw(length, 2))
            whole, below = block(x, canvas)
            with torch.no_grad():
                found, cut_below = block(x, canvas)
            torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-9, msg=f"{name}, {kind}: {{}}".format)
            assert cut_below.has_margin == below.has_margin
            for mine, theirs in ((cut_below.valid, below.valid), (cut_below.inside, below.inside)):
                assert (mine is None) == (theirs is None)
                assert mine is None or theirs is None or torch.equal(mine, theirs)


def test_whole_where_a_gradient_is_kept_or_all_is_seen() -> None:
    calls: list[int] = []

    def step(x: Tensor, _: Canvas) -> Tensor:
        calls.append(x.shape[1])
        return x

    x = draw(10 * ROWS)
    in_overlapping_pieces(step, x, Canvas(None, None), reach=1)
    with torch.no_grad():
        in_overlapping_pieces(step, x, Canvas(None, None), reach=None)
    assert calls == [10 * ROWS] * 2


@torch.no_grad()
def test_rows_of_all_sequences_count() -> None:
    calls: list[int] = []

    def step(x: Tensor, _: Canvas) -> Tensor:
        calls.append(x.shape[1])
        return x

    x = draw(ROWS, batch=4)
    assert torch.equal(in_overlapping_pieces(step, x, Canvas(None, None), reach=0), x)
    assert calls == [ROWS // 4] * 4
