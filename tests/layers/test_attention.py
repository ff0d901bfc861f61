"""layers/attention.py: full and windowed attention agree where they should, down-sample alike, and respect masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.layers.attention import ConvAttention
from eventide.layers.canvas import Canvas

CHANNELS, HEADS = 12, 3


def make(stride: int, window: int, use_rel_pe: bool = False, dropout: float = 0.0) -> ConvAttention:
    torch.manual_seed(0)
    layer = ConvAttention(
        CHANNELS,
        HEADS,
        HEADS,
        stride=stride,
        window=window,
        rotary=False,
        fused=True,
        rms=False,
        dropout=dropout,
        use_rel_pe=use_rel_pe,
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.double().eval()


def draw(length: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, CHANNELS, generator=generator, dtype=torch.float64)


def reference(layer: ConvAttention, x: Tensor) -> Tensor:
    """One sequence (T, C) without padding: convolve, norm, project, then a softmax for each head and query."""
    projected = []
    for name in ("query", "key", "value"):
        conv, norm, linear = getattr(layer, f"{name}_conv").conv, getattr(layer, f"{name}_norm"), getattr(layer, name)
        out = F.conv1d(x.t()[None], conv.weight, None, layer.stride, conv.padding, 1, CHANNELS)[0].t()
        out = F.layer_norm(out, [CHANNELS], norm.weight.flatten(), norm.bias.flatten(), norm.eps)
        projected.append(out @ linear.weight[..., 0].t() + linear.bias)
    q, k, v = projected
    out, width = torch.zeros_like(q), CHANNELS // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        for time in range(len(q)):
            low, high = 0, len(q)
            if layer.reach is not None:
                low, high = max(time - layer.reach, 0), min(time + layer.reach + 1, len(q))
            scores = k[low:high, part] @ q[time, part] / width**0.5
            if layer.rel_pe is not None and layer.reach is not None:
                scores = scores + layer.rel_pe[0, 0, head, torch.arange(low, high) - time + layer.reach]
            out[time, part] = scores.softmax(dim=0) @ v[low:high, part]
    return out @ layer.proj.weight[..., 0].t() + (0.0 if layer.proj.bias is None else layer.proj.bias)


@pytest.mark.parametrize("length", [1, 2, 9, 40])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(
    ("label", "window", "use_rel_pe"), [("full", -1, False), ("windowed", 9, False), ("relative positions", 9, True)]
)
def test_against_loop(label: str, window: int, use_rel_pe: bool, stride: int, length: int) -> None:
    layer, x = make(stride, window, use_rel_pe), draw(length, batch=2)
    found = layer(x, Canvas(None, None))
    assert found.shape == (2, -(-length // stride), CHANNELS)
    for row in range(2):
        torch.testing.assert_close(found[row], reference(layer, x[row]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_over_everything_is_full_attention(stride: int) -> None:
    full, windowed, x = make(stride, -1), make(stride, 81), draw(40)
    windowed.load_state_dict(full.state_dict())
    torch.testing.assert_close(windowed(x, Canvas(None, None)), full(x, Canvas(None, None)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("window", [-1, 9])
def test_a_sequence_alone_and_in_a_batch(window: int, stride: int) -> None:
    layer, x, lengths = make(stride, window, use_rel_pe=True), draw(40), [40, 21, 1]
    mask = torch.arange(40) < torch.tensor(lengths)[:, None]
    canvas = Canvas(mask, mask)
    together = layer(canvas.keep_valid(x), canvas.downsample(stride))
    assert together.isfinite().all()
    for row, length in enumerate(lengths):
        alone = layer(x[row : row + 1, :length], Canvas(None, None))
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=1e-9, atol=1e-9)


def test_dropout_acts_in_training_only() -> None:
    layer, x, canvas = make(1, 9, dropout=0.5), draw(40), Canvas(None, None)
    assert torch.equal(layer(x, canvas), layer(x, canvas))
    layer.train()
    assert 0.4 < (layer(x, canvas) == 0).double().mean() < 0.6


@pytest.mark.parametrize(("window", "reach"), [(-1, None), (0, None), (1, None), (3, 1), (9, 4), (19, 9)])
def test_windows(window: int, reach: int | None) -> None:
    layer = make(1, window, use_rel_pe=True)
    assert layer.reach == reach
    assert (layer.rel_pe is None) == (reach is None)
    if reach is not None and layer.rel_pe is not None:
        assert layer.rel_pe.shape == (1, 1, HEADS, window)
