"""layers/blocks.py: shapes, parameters, and what positions do to a block and to a whole backbone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from eventide.layers.attention import ConvAttention
from eventide.layers.blocks import BlockStyle, ConvBlock, TransformerBlock
from eventide.layers.canvas import Canvas
from eventide.ops.rope import rotation_table

CHANNELS, HEADS = 16, 4
ALL_ON = BlockStyle(HEADS, shared_heads=2, rotary=True, gated=True, rms=True)


def draw(length: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, CHANNELS, generator=generator, dtype=torch.float64)


def randomised(block: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return block.double().eval()


def canvas_of(length: int, valid: Tensor | None = None, rotary: bool = True) -> Canvas:
    table = rotation_table(length, CHANNELS // HEADS, torch.empty(0, dtype=torch.float64)) if rotary else None
    return Canvas(valid, valid, table)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 9, 10, 57])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["transformer", "convolutions"])
def test_lengths_are_those_of_the_masks(kind: str, stride: int, length: int) -> None:
    block = (
        ConvBlock(CHANNELS, stride=stride)
        if kind == "convolutions"
        else TransformerBlock(CHANNELS, ALL_ON, stride=stride, window=9)
    )
    valid = torch.arange(length) < torch.tensor([length, (length + 1) // 2])[:, None]
    below = canvas_of(length, valid)
    out, canvas = block.double()(below.keep_valid(draw(length)), below)
    assert canvas.valid is not None
    assert canvas.rotation is not None
    assert out.shape == (2, -(-length // stride), CHANNELS)
    assert out.shape[:2] == canvas.valid.shape
    assert canvas.rotation.shape[0] == out.shape[1]
    assert (out[~canvas.valid] == 0).all()


@pytest.mark.parametrize("shared", [1, 2, 4])
def test_shapes_of_shared_heads(shared: int) -> None:
    layer = TransformerBlock(CHANNELS, replace(ALL_ON, shared_heads=shared), stride=1, window=9).attn
    width = CHANNELS // HEADS
    assert layer.query.weight.shape == layer.proj.weight.shape == (CHANNELS, CHANNELS, 1)
    for linear in (layer.key, layer.value):
        assert linear.weight.shape == (shared * width, CHANNELS, 1)
        assert linear.bias is not None
        assert linear.bias.shape == (shared * width,)


def test_heads_are_their_own_where_none_is_shared() -> None:
    shapes = [
        {name: p.shape for name, p in TransformerBlock(CHANNELS, style, stride=2, window=9).named_parameters()}
        for style in (BlockStyle(HEADS), BlockStyle(HEADS, shared_heads=HEADS))
    ]
    assert shapes[0] == shapes[1]


def test_rms_norm_has_no_bias() -> None:
    names = {name for name, _ in TransformerBlock(CHANNELS, ALL_ON, stride=1, window=9).named_parameters()}
    norms = ("ln1", "ln2", "attn.query_norm", "attn.key_norm", "attn.value_norm")
    assert {f"{name}.weight" for name in norms} <= names
    assert not {f"{name}.bias" for name in norms} & names


@given(
    length=st.integers(1, 40),
    steps=st.integers(0, 12),
    stride=st.sampled_from([1, 2, 3]),
    window=st.sampled_from([-1, 3, 9]),
    fused=st.booleans(),
)
def test_rotary_attention_sees_distances_only(length: int, steps: int, stride: int, window: int, fused: bool) -> None:
    """The same sequence further along in the grid, also after down-sampling, where positions count in its steps."""
    style = replace(ALL_ON, fused=fused)
    block = randomised(TransformerBlock(CHANNELS, style, stride=stride, window=window))
    shift = steps * stride
    x = draw(length, batch=1)
    moved = torch.cat((torch.zeros(1, shift, CHANNELS, dtype=torch.float64), x), dim=1)
    valid = torch.arange(length + shift)[None] >= shift
    with torch.no_grad():
        expected, _ = block(x, canvas_of(length))
        found, _ = block(moved, canvas_of(length + shift, valid))
    torch.testing.assert_close(found[:, steps:], expected, rtol=1e-9, atol=1e-9)
    assert (found[:, :steps] == 0).all()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [-1, 9])
def test_positions_count_in_steps_of_the_level(window: int, stride: int) -> None:
    """Rotation after down-sampling is by 0, 1, 2, ... and not by 0, 2, 4, ... of the finest level."""
    layer = ConvAttention(
        CHANNELS,
        HEADS,
        HEADS,
        stride=stride,
        window=window,
        rotary=True,
        fused=True,
        rms=True,
        dropout=0.0,
        use_rel_pe=False,
    )
    randomised(layer)
    x, whole = draw(40), canvas_of(40)
    level = whole.downsample(stride)
    assert level.rotation is not None
    assert whole.rotation is not None
    assert torch.equal(level.rotation, whole.rotation[: 40 // stride])
    turned = layer(x, level)
    other = Canvas(None, None, level.rotation.roll(3, dims=0))
    assert (layer(x, other) - turned).abs().max() > 1e-3  # positions out of order are seen
    assert (layer(x, Canvas(None, None)) - turned).abs().max() > 1e-3  # and so is their absence
