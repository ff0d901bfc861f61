"""layers/joined.py: levels joined with gaps that no convolution reaches across."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.layers.canvas import Canvas
from eventide.layers.joined import JoinedLevels, join_levels

LEVELS = [(1,), (8, 4, 2, 1), (7, 4, 2, 1), (5, 5), (9, 5, 3, 2, 1)]


def draw(lengths: tuple[int, ...], padded: bool, margin: bool = False) -> tuple[list[Tensor], list[Canvas]]:
    """Two sequences per level, zero outside their canvas; the second is about half as long where `padded`."""
    generator = torch.Generator().manual_seed(0)
    levels, canvases = [], []
    for length in lengths:
        x = torch.randn(2, length, 3, generator=generator, dtype=torch.float64)
        inside = torch.arange(length) < torch.tensor([length, (length + 1) // 2])[:, None] if padded else None
        valid = inside
        if margin:
            valid = torch.arange(length) < torch.tensor([length, (length + 2) // 3])[:, None]
        canvas = Canvas(valid, inside)
        levels.append(canvas.keep_inside(x))
        canvases.append(canvas)
    return levels, canvases


def gaps(joined: JoinedLevels) -> Tensor:
    """Positions (N,) that belong to no level."""
    outside = torch.ones(joined.x.shape[1], dtype=torch.bool)
    for start, length in zip(joined.starts, joined.lengths, strict=True):
        outside[start : start + length] = False
    return outside


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("reach", [1, 2, 3])
@pytest.mark.parametrize("lengths", LEVELS, ids=str)
def test_splitting_undoes_joining(lengths: tuple[int, ...], reach: int, padded: bool) -> None:
    levels, canvases = draw(lengths, padded)
    joined = join_levels(levels, canvases, reach)
    assert all(torch.equal(*pair) for pair in zip(joined.split(joined.x), levels, strict=True))
    assert joined.x.shape[1] % 2 == 0  # pairs for minimal filtering
    assert (joined.x[:, gaps(joined)] == 0).all()
    assert joined.canvas.inside is not None
    assert not joined.canvas.inside[:, gaps(joined)].any()
    starts = [*joined.starts[1:], joined.x.shape[1]]
    assert all(
        after - (start + length) >= reach
        for start, length, after in zip(joined.starts, joined.lengths, starts, strict=True)
    )


@pytest.mark.parametrize(("padded", "margin"), [(False, False), (True, False), (True, True)])
def test_masks_are_those_of_the_levels(padded: bool, margin: bool) -> None:
    levels, canvases = draw((9, 5, 3), padded, margin)
    joined = join_levels(levels, canvases, 2)
    assert joined.canvas.has_margin == margin
    for name in ("valid", "inside"):
        whole = getattr(joined.canvas, name)
        for found, canvas in zip(joined.split(whole), canvases, strict=True):
            expected = getattr(canvas, name)
            assert torch.equal(found, torch.ones_like(found) if expected is None else expected)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_convolutions_see_their_own_level_only(kernel: int, padded: bool) -> None:
    levels, canvases = draw((9, 5, 3, 2, 1), padded)
    weight = torch.randn(4, 3, kernel, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def convolve(x: Tensor) -> Tensor:
        return F.conv1d(x.transpose(1, 2), weight, padding=kernel // 2).transpose(1, 2)

    joined = join_levels(levels, canvases, kernel // 2)
    for found, level in zip(joined.split(convolve(joined.x)), levels, strict=True):
        torch.testing.assert_close(found, convolve(level))
