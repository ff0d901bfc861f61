"""Switch by switch: the attention layer and the transformer block against plain formulas in float64.

Every combination of window (full, 3, 9, 19), stride (1, 2), query heads per key head (1, 2, 4), length (1, the window
less one, the window, odd, 1000) and mask (none, ragged), in float32: outputs within 1e-5, gradients within 1e-4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from eventide.layers.attention import ConvAttention
from eventide.layers.blocks import BlockStyle, TransformerBlock
from eventide.layers.canvas import Canvas
from eventide.ops.rope import rotation_table
from tests import references

CHANNELS, HEADS = 16, 4
WINDOWS = (-1, 3, 9, 19)
STYLES = {
    "all off": BlockStyle(HEADS, fused=False),
    "flash": BlockStyle(HEADS),
    "rope": BlockStyle(HEADS, fused=False, rotary=True),
    "rms norm": BlockStyle(HEADS, fused=False, rms=True),
    "swiglu": BlockStyle(HEADS, fused=False, gated=True),
    "all on": BlockStyle(HEADS, rotary=True, gated=True, rms=True),
}


def cases() -> Iterator[object]:
    """Window, stride, ratio of heads, length, mask; most of the slow ones are marked."""
    for window, stride, ratio, ragged in product(WINDOWS, (1, 2), (1, 2, 4), (False, True)):
        around = 19 if window < 0 else window
        for length in sorted({1, around - 1, around, 57, 1000}):
            kept = ratio == 2 and ragged and stride == 2
            label = (
                f"window {window}, stride {stride}, ratio {ratio}, T {length}, {'ragged' if ragged else 'all valid'}"
            )
            marks = [pytest.mark.slow] if length == 1000 and not kept else []
            yield pytest.param(window, stride, ratio, length, ragged, marks=marks, id=label)


def draw(length: int, ragged: bool) -> tuple[Tensor, Tensor | None]:
    """(B, T, CHANNELS) float32, zero in the padding, and the mask."""
    generator = torch.Generator().manual_seed(length)
    if not ragged:
        return torch.randn(1, length, CHANNELS, generator=generator), None
    x = torch.randn(2, length, CHANNELS, generator=generator)
    valid = torch.arange(length) < torch.tensor([length, max(2 * length // 3, 1)])[:, None]
    return x * valid.unsqueeze(-1), valid


def randomised(module: nn.Module) -> nn.Module:
    """Every parameter off its initial value, so that none is without effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def make_canvas(x: Tensor, valid: Tensor | None, rotary: bool) -> Canvas:
    return Canvas(valid, valid, rotation_table(x.shape[1], CHANNELS // HEADS, x) if rotary else None)


def compare(out: Tensor, expected: Tensor, module: nn.Module, exact: dict[str, Tensor], inputs: list[Tensor]) -> None:
    """Outputs and gradients of a float32 module, and of the formula with the parameters `exact`."""
    assert out.dtype == torch.float32
    assert out.shape == expected.shape
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    names = ["x", *exact]
    found = references.gradients(out, direction, [inputs[0], *module.parameters()])
    wanted = references.gradients(expected, direction, [inputs[1], *exact.values()])
    references.assert_gradients_close(found, wanted, names.__getitem__)


@pytest.mark.parametrize(("window", "stride", "ratio", "length", "ragged"), list(cases()))
def test_attention_layer(window: int, stride: int, ratio: int, length: int, ragged: bool) -> None:
    x, valid = draw(length, ragged)
    for fused, rms in ((True, True), (False, False)):
        layer = ConvAttention(
            CHANNELS,
            HEADS,
            HEADS // ratio,
            stride=stride,
            window=window,
            rotary=True,
            fused=fused,
            rms=rms,
            dropout=0.0,
            use_rel_pe=False,
        )
        exact = references.double(randomised(layer))
        ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
        canvas = make_canvas(x, valid, rotary=True).downsample(stride)
        half = None if window < 0 else window // 2
        expected = references.conv_attention(
            theirs, exact, heads=HEADS, stride=stride, half=half, rotary=True, valid=canvas.valid
        )
        out = layer(ours, canvas)
        compare(canvas.keep_valid(out), canvas.keep_valid(expected), layer, exact, [ours, theirs])


def compare_block(style: BlockStyle, window: int, stride: int, length: int, ragged: bool) -> None:
    x, valid = draw(length, ragged)
    block = TransformerBlock(CHANNELS, style, stride=stride, window=window)
    exact = references.double(randomised(block))
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    half = None if window < 0 else window // 2
    expected = references.block(theirs, exact, heads=HEADS, stride=stride, half=half, rotary=style.rotary, valid=valid)
    out, canvas = block(ours, make_canvas(x, valid, style.rotary))
    assert (canvas.valid is None) == (valid is None)
    compare(out, expected, block, exact, [ours, theirs])


@pytest.mark.parametrize(("window", "stride", "ratio", "length", "ragged"), list(cases()))
def test_block_with_all_switches_on(window: int, stride: int, ratio: int, length: int, ragged: bool) -> None:
    compare_block(replace(STYLES["all on"], shared_heads=HEADS // ratio), window, stride, length, ragged)


@pytest.mark.parametrize("ragged", [False, True], ids=["all valid", "ragged"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [-1, 3, 9, 65])
@pytest.mark.parametrize("name", STYLES)
def test_block_switch_by_switch(name: str, window: int, stride: int, ragged: bool) -> None:
    for length, ratio in ((1, 1), (1, 4), (8, 2), (9, 1), (57, 1), (57, 4)):
        compare_block(replace(STYLES[name], shared_heads=HEADS // ratio), window, stride, length, ragged)


@pytest.mark.parametrize("name", STYLES)
def test_layer_scales_and_relative_positions(name: str) -> None:
    """What only v1 has of its own, and what training adds: switches change nothing about them."""
    style = replace(STYLES[name], droppath=0.3, use_rel_pe=True)
    for stride in (1, 2):
        block = TransformerBlock(CHANNELS, style, stride=stride, window=9).eval()
        exact = references.double(randomised(block))
        x, valid = draw(57, ragged=True)
        ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
        expected = references.block(theirs, exact, heads=HEADS, stride=stride, half=4, rotary=style.rotary, valid=valid)
        compare(block(ours, make_canvas(x, valid, style.rotary))[0], expected, block, exact, [ours, theirs])


@pytest.mark.parametrize("window", [-1, 9])
def test_switches_do_something(window: int) -> None:
    """A switch that is off by mistake would pass every comparison with an equally mistaken formula."""
    x, _ = draw(57, ragged=False)
    outputs = []
    for style in STYLES.values():
        torch.manual_seed(0)
        block = randomised(TransformerBlock(CHANNELS, style, stride=1, window=window))
        outputs.append(block(x, make_canvas(x, None, style.rotary))[0])
    plain, flash = outputs[:2]
    torch.testing.assert_close(flash, plain, rtol=1e-5, atol=1e-5)
    for other in outputs[2:]:
        assert (other - plain).abs().max() > 0.1
