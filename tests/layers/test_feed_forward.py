"""layers/feed_forward.py: plain and gated against formulas, in pieces and whole; widths and numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eventide.layers import pieces as layer_pieces
from eventide.layers.blocks import BlockStyle, TransformerBlock
from eventide.layers.feed_forward import FeedForward, GatedFeedForward, gated_width, in_pieces
from tests import references

CHANNELS, HIDDEN, PIECE = 6, 10, 8
KINDS: dict[str, type[FeedForward] | type[GatedFeedForward]] = {"plain": FeedForward, "gated": GatedFeedForward}
WIDTHS = [32, 48, 64, 96, 100, 128, 192, 250, 256, 320, 384, 512, 640, 768, 1000, 1024]


def make(kind: str, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    module = KINDS[kind](CHANNELS, HIDDEN, dropout)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def draw(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, CHANNELS, generator=torch.Generator().manual_seed(length))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("with_scale", [False, True], ids=["no scale", "scale"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 57), (2, 700)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_against_the_formula(kind: str, shape: tuple[int, int], with_scale: bool) -> None:
    module, x = make(kind), draw(*shape)
    exact = references.double(module)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    scale = torch.linspace(0.5, 1.5, CHANNELS) if with_scale else None
    expected = references.feed_forward(theirs, exact) * (1.0 if scale is None else scale.double())
    found = module(ours, scale)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    direction = draw(*shape).flip(-1)
    references.assert_gradients_close(
        references.gradients(found, direction, [ours, *module.parameters()]),
        references.gradients(expected, direction, [theirs, *exact.values()]),
        ["x", *exact].__getitem__,
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 2 * PIECE - 1), (1, 2 * PIECE), (1, 57), (3, 20), (20, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_whole(kind: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = make(kind), draw(*shape)
    whole = module(x)  # a gradient is kept, so that there is one piece
    monkeypatch.setattr(layer_pieces, "ROWS_AT_ONCE", PIECE)
    assert len(in_pieces(x)) == 1
    with torch.no_grad():
        pieces = in_pieces(x)
        assert (len(pieces) > 1) == (shape[0] * shape[1] >= 2 * PIECE)
        assert torch.equal(torch.cat(pieces, dim=1), x)
        assert all(piece.shape[0] * piece.shape[1] < 2 * PIECE + shape[0] for piece in pieces)
        torch.testing.assert_close(module(x), whole, rtol=1e-6, atol=1e-6)
        scale = torch.linspace(0.5, 1.5, CHANNELS)
        torch.testing.assert_close(module(x, scale), whole * scale, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind: str) -> None:
    module, x = make(kind, dropout=0.5), draw(2, 200)
    module.eval()
    expected = references.feed_forward(x.double(), references.double(module))
    torch.testing.assert_close(module(x).double(), expected, rtol=1e-5, atol=1e-5)
    module.train()
    out = module(x)
    assert 0.4 < (out == 0).double().mean() < 0.6
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_to_float32(kind: str) -> None:
    module, x = make(kind), draw(2, 100)
    full = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x)
    assert low.dtype == torch.bfloat16
    assert (low.float() - full).norm() <= 0.02 * full.norm()


@pytest.mark.parametrize("channels", WIDTHS)
def test_gating_keeps_the_number_of_parameters(channels: int) -> None:
    """Of the feed-forward, and with it of the block: within 2%."""
    plain, gated = (BlockStyle(heads=2, gated=on) for on in (False, True))
    with torch.device("meta"):
        for build in (
            lambda style: style.feed_forward(channels),
            lambda style: TransformerBlock(channels, style, stride=1, window=9),
        ):
            assert abs(parameters(build(gated)) / parameters(build(plain)) - 1) < 0.02


@pytest.mark.parametrize("channels", range(32, 1025))
def test_gated_width(channels: int) -> None:
    width = gated_width(channels)
    assert abs(3 * channels * width / (2 * channels * 4 * channels) - 1) < 0.02


@pytest.mark.parametrize(("channels", "width"), [(1, 3), (2, 5), (512, 1376), (256, 688)])
def test_gated_widths(channels: int, width: int) -> None:
    assert gated_width(channels) == width


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_hidden_width_overrides(gated: bool) -> None:
    module = BlockStyle(heads=2, gated=gated, hidden=13).feed_forward(8)
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if gated:
        assert shapes["inner.weight"] == (26, 8, 1)
        assert shapes["outer.weight"] == (8, 13, 1)
    else:
        assert shapes["0.weight"] == (13, 8, 1)
        assert shapes["3.weight"] == (8, 13, 1)
