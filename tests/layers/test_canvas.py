"""layers/canvas.py: which positions are real and which lie on the canvas, under both kinds of padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.layers.canvas import Canvas, CanvasRule

MARGIN = 6
OWN = CanvasRule("own", max_seq_len=16, divisor=8, margin=MARGIN)
PUBLISHED = CanvasRule("published", max_seq_len=18, divisor=8, margin=MARGIN)


def batch(lengths: list[int], filling: float = 7.0) -> tuple[Tensor, Tensor]:
    """Features (B, 2, T), real vectors counted from 1, and their mask; `filling` in the padding."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    counted = torch.arange(1.0, max(lengths) + 1).expand(len(lengths), 2, -1)
    return torch.where(mask[:, None], counted, filling), mask


@pytest.mark.parametrize("filling", [7.0, float("nan"), float("inf")])
@pytest.mark.parametrize("rule", [OWN, PUBLISHED], ids=["own", "published"])
def test_features_stay_and_padding_becomes_zero(rule: CanvasRule, filling: float) -> None:
    features, mask = batch([5, 3], filling)
    x, canvas, _ = rule.place(features, mask)
    assert x.shape == (2, 5 if rule is OWN else 5 + MARGIN, 2)
    for row, length in enumerate((5, 3)):
        assert x[row, :length, 0].tolist() == list(range(1, length + 1))
        assert (x[row, length:] == 0).all()
    assert canvas.valid is not None
    assert canvas.valid.sum(dim=1).tolist() == [5, 3]


def test_own_canvas_is_the_sequence() -> None:
    features, mask = batch([5, 3])
    _, canvas, lengths = OWN.place(features, mask)
    assert lengths.tolist() == [5, 3]
    assert canvas.valid is canvas.inside is mask
    assert not canvas.has_margin


def test_own_canvas_without_padding_costs_no_mask() -> None:
    x, canvas, lengths = OWN.place(batch([5, 5])[0], None)
    assert x.shape == (2, 5, 2)
    assert canvas.valid is canvas.inside is None
    assert lengths.tolist() == [5, 5]
    assert canvas.keep_valid(x) is canvas.keep_inside(x) is x
    assert canvas.downsample(2).valid is None


@pytest.mark.parametrize(
    ("label", "length", "canvas_length"),
    [
        ("one vector", 1, 18),
        ("below max_seq_len", 17, 18),
        ("max_seq_len, which is no multiple", 18, 18),
        ("one more: the next multiple", 19, 24),
        ("a multiple", 24, 24),
        ("beyond a multiple", 25, 32),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_length_of_the_published_canvas(label: str, length: int, canvas_length: int, masked: bool) -> None:
    features, mask = batch([length])
    x, canvas, lengths = PUBLISHED.place(features, mask if masked else None)
    assert lengths.tolist() == [canvas_length]
    assert x.shape == (1, length + MARGIN, 2)  # never more than the margin, however long the canvas
    assert canvas.valid is not None
    assert canvas.inside is not None
    assert canvas.valid.sum() == length
    assert canvas.inside.sum() == min(canvas_length, length + MARGIN)
    assert (canvas.inside | ~canvas.valid).all()
    assert canvas.has_margin


def test_each_sequence_has_a_canvas_of_its_own() -> None:
    features, mask = batch([19, 3, 18])
    _, canvas, lengths = PUBLISHED.place(features, mask)
    assert lengths.tolist() == [24, 18, 18]
    assert canvas.inside is not None
    assert canvas.inside.sum(dim=1).tolist() == [24, 18, 18]  # of the 25 positions that are computed


@pytest.mark.parametrize(("stride", "kept"), [(1, [5, 3]), (2, [3, 2]), (4, [2, 1]), (8, [1, 1])])
@pytest.mark.parametrize("rule", [OWN, PUBLISHED], ids=["own", "published"])
def test_coarser_levels(rule: CanvasRule, stride: int, kept: list[int]) -> None:
    canvas = rule.place(*batch([5, 3]))[1]
    coarse = canvas.downsample(stride)
    assert coarse.valid is not None
    assert coarse.valid.sum(dim=1).tolist() == kept
    assert coarse.has_margin == canvas.has_margin


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masking_keeps_the_dtype(dtype: torch.dtype) -> None:
    valid, inside = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    canvas, x = Canvas(valid, inside), torch.ones(1, 3, 2, dtype=dtype)
    assert canvas.keep_valid(x)[0, :, 0].tolist() == [1, 0, 0]
    assert canvas.keep_inside(x)[0, :, 0].tolist() == [1, 1, 0]
    assert canvas.keep_valid(x).dtype == canvas.keep_inside(x).dtype == dtype
