"""What only uncertain boundaries have: how far the bins reach, and the spread that a boundary comes with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eventide.models import build
from eventide.models.tbtformer import Criterion, Detector
from eventide.ops.distribution import wide_focal_loss
from eventide.ops.points import pyramid_points
from eventide.types import PyramidOutput

from .making import CHANNELS, build_random, small_config

BINS = 5


def make(**changes: Any):  # type: ignore[no-untyped-def]
    return build(small_config("TBTFormer", model__reg_max=BINS - 1, **changes))


@pytest.mark.parametrize(
    ("ranges", "longest", "expected"),
    [
        pytest.param([(0, 4), (4, 8), (8, 10000)], None, [8.0, 8.0, 4.0], id="open, longest not known yet"),
        pytest.param([(0, 4), (4, 8), (8, 10000)], 80.0, [8.0, 8.0, 20.0], id="open"),
        pytest.param([(0, 4), (2, 8), (4, 16)], 80.0, [8.0, 8.0, 20.0], id="closed, longer events"),
        pytest.param([(0, 4), (4, 8), (8, 10000)], 2.0, [8.0, 8.0, 1.0], id="all events short"),
    ],
)
def test_bins_span_the_range_of_their_level(
    ranges: list[tuple[float, float]], longest: float | None, expected: list[float]
) -> None:
    architecture = make(model__regression_range=ranges)
    if longest is not None:
        architecture.set_longest_event(longest)
    detector = architecture.detector
    assert isinstance(detector, Detector)
    assert detector.spans.tolist() == pytest.approx(expected)
    assert detector.state_dict()["spans"].tolist() == pytest.approx(expected)


def test_every_distance_of_the_training_data_is_within_the_bins() -> None:
    architecture = make(model__regression_range=[(0, 4), (4, 8), (8, 10000)])
    architecture.set_longest_event(120.0)
    detector = architecture.detector
    assert isinstance(detector, Detector)
    points = pyramid_points([150, 75, 38], architecture.strides, [(0, 4), (4, 8), (8, 10000)])
    for start, end in ((3.0, 6.5), (10.0, 17.0), (20.0, 140.0)):
        left, right = points.position - start, end - points.position
        farther = torch.maximum(left, right)
        learns = (torch.minimum(left, right) > 0) & (farther >= points.nearest) & (farther <= points.farthest)
        span = torch.cat([s.expand(n) for s, n in zip(detector.spans, (150, 75, 38), strict=True)]) * points.stride
        assert learns.any()
        assert (farther[learns] <= span[learns]).all()


def test_spread_follows_the_distribution() -> None:
    """A boundary whose mass lies on one knot is sure; one whose mass lies on all is not. Start comes before end."""
    config = small_config("TBTFormer", model__reg_max=BINS - 1, test_cfg__quantiles=[0.1, 0.5, 0.9])
    architecture = build(config)
    lengths, strides = [8, 4, 2], architecture.strides
    spans = torch.tensor([4.0, 4.0, 4.0])
    logits = [torch.full((1, n, 3), -20.0) for n in lengths]
    logits[1][0, 2, 1] = 3.0  # one candidate, on the level of stride 2, at grid position 4
    distributions = [torch.zeros(1, n, 2, BINS) for n in lengths]
    distributions[1][0, 2, 0, 1] = 50.0  # start surely 1 stride before; end anywhere from 0 to 4 strides after
    masks = [torch.ones(1, n, dtype=torch.bool) for n in lengths]
    offsets = [torch.tensor([1.0, 2.0]).expand(1, n, 2) for n in lengths]
    (found,) = architecture.decoder(PyramidOutput(logits, offsets, masks, distributions, spans))
    assert len(found) == 1
    assert found.segments.tolist() == [[4 - strides[1] * 1.0, 4 + strides[1] * 2.0]]
    assert found.std is not None
    assert found.quantiles is not None
    assert found.std[0].tolist() == pytest.approx([0.0, 2 * 2**0.5], abs=1e-3)
    start, end = found.quantiles[0]
    assert (start[:-1] <= start[1:]).all()
    assert (end[:-1] <= end[1:]).all()
    assert start[1] == pytest.approx(2.0, abs=0.05)
    assert end[1] == pytest.approx(8.0, abs=1e-3)
    # a fifth of the mass on each knot, 2 grid steps apart; that of the last ones spread to one side only
    assert end.tolist() == pytest.approx([4 + 0.5, 4 + 4.0, 4 + 7.5], abs=1e-3)


def test_expected_distances_are_those_of_the_distributions() -> None:
    detector = build_random(small_config("TBTFormer", model__reg_max=BINS - 1)).detector
    with torch.no_grad():
        output = detector(torch.randn(1, CHANNELS, 33))
    assert output.distributions is not None
    assert output.spans is not None
    for offsets, distributions, span in zip(output.offsets, output.distributions, output.spans, strict=True):
        knots = torch.linspace(0, 1, BINS) * span
        torch.testing.assert_close(offsets, (distributions.softmax(-1) * knots).sum(-1))
        assert (offsets >= 0).all()
        assert (offsets <= span).all()


def test_weight_of_the_distribution_loss() -> None:
    """`dfl_weight` 0 leaves the overlap loss alone; more adds in proportion."""
    features = torch.randn(1, CHANNELS, 64)
    segments, label_ids = torch.tensor([[[4.0, 9.5], [20.0, 33.0]]]), torch.tensor([[0, 1]])
    losses = []
    for weight in (0.0, 1.0, 2.0):
        architecture = build_random(small_config("TBTFormer", model__reg_max=BINS - 1, model__dfl_weight=weight))
        criterion = architecture.criterion.eval()
        losses.append(criterion(architecture.detector(features), segments, label_ids)["reg_loss"].item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)


def test_width_of_the_targets() -> None:
    """`target_width` 0 is the plain loss of two bins; more is another loss, by as much as the stride makes of it."""
    features = torch.randn(1, CHANNELS, 64)
    segments, label_ids = torch.tensor([[[4.0, 9.5], [20.0, 33.0]]]), torch.tensor([[0, 1]])
    losses = {}
    for width in (0.0, 0.5, 2.0, None):
        changes = {} if width is None else {"model__target_width": width}
        architecture = build_random(small_config("TBTFormer", model__reg_max=BINS - 1, **changes))
        output = architecture.detector(features)
        losses[width] = architecture.criterion.eval()(output, segments, label_ids)["reg_loss"].item()
    assert len({round(value, 5) for value in (losses[0.0], losses[0.5], losses[2.0])}) == 3
    one = build_random(small_config("TBTFormer", model__reg_max=BINS - 1, model__target_width=1.0))
    assert losses[None] == pytest.approx(
        one.criterion.eval()(one.detector(features), segments, label_ids)["reg_loss"].item()
    )
    criterion = one.criterion
    assert isinstance(criterion, Criterion)
    distances, positive = torch.full((1, 112, 2), 2.0), torch.zeros(1, 112, dtype=torch.bool)
    positive[0, 64 + 3] = True  # a point of stride 2
    output = one.detector(features)
    assert output.distributions is not None
    assert output.spans is not None
    expected = wide_focal_loss(output.distributions[1][0, 3], distances[0, 0], output.spans[1], 1.0 / 2).mean()
    criterion.dfl_weight, plain = 0.0, criterion.dfl_weight
    overlap = criterion.boundary_loss(output, distances, positive)
    criterion.dfl_weight = 1.0
    torch.testing.assert_close(criterion.boundary_loss(output, distances, positive) - overlap, expected)
    assert plain == 0.25
