"""Memory of inference grows in a line with the length, and a vector's share of it has a limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eventide.engine.measure.scaling import fit_line
from eventide.layers import pieces
from eventide.models import build
from eventide.ops import winograd

from .live_bytes import LiveBytes
from .making import CHANNELS, small_config

WIDTH = 64
SMALLER = 16  # times: all pieces, so that short sequences show what long ones do
LENGTHS = [1024, 2048, 4096, 6144, 8192]
# Tensors of (T, WIDTH) that may be alive at once for each vector more: levels and joined levels are four of them.
SLOPE, AT_MOST = 4.5, 5.0


def peak(detector: torch.nn.Module, length: int) -> int:
    """Bytes above weights and input."""
    features = torch.randn(1, CHANNELS, length, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), LiveBytes() as live:
        detector(features)
    return live.peak


def test_the_counter_itself() -> None:
    with torch.no_grad(), LiveBytes() as live:
        first = torch.zeros(100, dtype=torch.float32)
        assert live.peak == 400
        view = first[10:].view(2, -1)
        second = view + 1
        assert live.peak == 400 + 360
        del first, view
        third = second * 2  # the first is gone: 360 + 360
        assert live.peak == 760
        third.add_(1)
        assert live.peak == 760


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("v1", {}),
        ("v2", {"model__backbone_type": "convTransformerv2"}),
        ("v2, shared heads", {"model__backbone_type": "convTransformerv2", "model__backbone__n_kv_head": 1}),
        ("convolutions", {"model__backbone_type": "conv"}),
    ],
)
def test_memory_grows_in_a_line(label: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((pieces, "ROWS_AT_ONCE"), (winograd, "CACHED_NUMBERS")):
        monkeypatch.setattr(module, name, getattr(module, name) // SMALLER)
    torch.manual_seed(0)
    config = small_config(
        **changes,
        model__backbone__n_embd=WIDTH,
        model__backbone__n_head=4,
        model__backbone__arch=(2, 2, 5),
        model__backbone__mha_win_size=19,
    )
    detector = build(config).detector.eval()
    peak(detector, 600)  # what evaluation keeps
    peaks = [peak(detector, length) for length in LENGTHS]
    line = fit_line(LENGTHS, peaks)
    unit = 4 * WIDTH
    shares = np.array(peaks) / (unit * np.array(LENGTHS))
    assert line is not None
    assert line.r_squared > 0.99
    assert line.slope <= SLOPE * unit
    assert shares[-1] <= AT_MOST
