"""Boundary distributions: mean, spread, quantiles and loss on one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.distribution import (
    distribution_focal_loss,
    expectation,
    quantiles,
    standard_deviation,
    wide_focal_loss,
)

BINS = 9
SPAN = torch.tensor(4.0)  # knots half a unit apart


def at_knots(*mass: tuple[int, float]) -> torch.Tensor:
    """Logits of a distribution with that mass at those knots."""
    probability = torch.zeros(BINS)
    for knot, share in mass:
        probability[knot] = share
    return probability.clamp(min=1e-30).log()


@pytest.mark.parametrize(
    ("logits", "mean", "spread"),
    [
        pytest.param(at_knots((0, 1.0)), 0.0, 0.0, id="first knot"),
        pytest.param(at_knots((8, 1.0)), 4.0, 0.0, id="last knot"),
        pytest.param(at_knots((2, 0.5), (3, 0.5)), 1.25, 0.25, id="between two knots"),
        pytest.param(at_knots((0, 0.5), (8, 0.5)), 2.0, 2.0, id="as wide as can be"),
        pytest.param(torch.zeros(BINS), 2.0, 0.5 * np.sqrt((BINS**2 - 1) / 12), id="uniform"),
    ],
)
def test_mean_and_spread(logits: torch.Tensor, mean: float, spread: float) -> None:
    assert expectation(logits, SPAN).item() == pytest.approx(mean, abs=1e-5)
    assert standard_deviation(logits, SPAN).item() == pytest.approx(spread, abs=1e-5)


@given(st.floats(0, 4, width=32))
def test_loss_is_least_where_the_expectation_is_the_target(target: float) -> None:
    """The best distribution for one target has that target as its mean: loss and decoding are on one scale."""
    wanted = torch.tensor(target)
    place = target / 4.0 * (BINS - 1)
    left = min(int(place), BINS - 2)
    best = at_knots((left, 1 - (place - left)), (left + 1, place - left))
    assert expectation(best, SPAN).item() == pytest.approx(target, abs=1e-4)
    least = distribution_focal_loss(best, wanted, SPAN).item()
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = distribution_focal_loss(best + 0.5 * torch.randn(BINS, generator=generator), wanted, SPAN).item()
        assert other >= least - 1e-5


def test_targets_beyond_the_last_knot_count_there() -> None:
    logits = torch.randn(BINS, generator=torch.Generator().manual_seed(0))
    at_end = distribution_focal_loss(logits, torch.tensor(4.0), SPAN)
    assert distribution_focal_loss(logits, torch.tensor(99.0), SPAN) == at_end
    assert at_end.item() == pytest.approx(-logits.log_softmax(-1)[-1].item(), rel=1e-5)


def test_loss_gradient() -> None:
    """Against finite differences; the loss works in float32, hence the width of the step."""
    logits = torch.randn(4, 2, BINS, generator=torch.Generator().manual_seed(1), requires_grad=True)
    targets = torch.tensor([[0.0, 4.0], [1.25, 0.3], [2.0, 3.99], [5.0, 0.5]])
    distribution_focal_loss(logits, targets, SPAN).sum().backward()
    assert logits.grad is not None
    expected = logits.detach().softmax(-1)
    place = (targets / 4 * (BINS - 1)).clamp(0, BINS - 1)
    left = place.floor().clamp(max=BINS - 2)
    expected.scatter_add_(-1, left.long().unsqueeze(-1), -(1 - (place - left)).unsqueeze(-1))
    expected.scatter_add_(-1, left.long().unsqueeze(-1) + 1, -(place - left).unsqueeze(-1))
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.floats(-8, 8, width=32), min_size=BINS, max_size=BINS))
def test_quantiles_rise_and_stay_within_the_span(values: list[float]) -> None:
    levels = [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]
    found = quantiles(torch.tensor(values), SPAN, levels)
    assert (found.diff() >= -1e-5).all()
    assert found.min() >= 0
    assert found.max() <= 4.0 + 1e-5


@given(st.lists(st.floats(-6, 6, width=32), min_size=BINS, max_size=BINS), st.floats(0.01, 0.99))
def test_quantiles_invert_the_distribution(values: list[float], level: float) -> None:
    """The mass below a quantile, spread evenly around its knots, is the level that was asked for."""
    logits = torch.tensor(values)
    quantile = quantiles(logits, SPAN, [level]).item() / 4.0 * (BINS - 1)
    mass = logits.double().softmax(-1).numpy()
    edges = np.concatenate(([0.0], np.arange(BINS - 1) + 0.5, [BINS - 1.0]))
    below = np.interp(quantile, edges, np.concatenate(([0.0], np.cumsum(mass))))
    assert below == pytest.approx(level, abs=1e-3)


def test_batches_and_no_levels() -> None:
    logits = torch.randn(3, 2, BINS)
    assert quantiles(logits, SPAN, [0.1, 0.9]).shape == (3, 2, 2)
    assert quantiles(logits, SPAN, []).shape == (3, 2, 0)
    one = quantiles(logits[1, 1], SPAN, [0.9])
    torch.testing.assert_close(quantiles(logits, SPAN, [0.1, 0.9])[1, 1, 1:], one)


@pytest.mark.parametrize("target", [0.0, 0.1, 0.6, 1.25, 2.0, 3.3, 3.9, 4.0])
@pytest.mark.parametrize("width", [0.0, 0.2, 1.0, 5.0])
def test_wide_targets_keep_their_mean(target: float, width: float) -> None:
    """The distribution that fits best has the label as its mean, whatever the width, also at the ends of the span."""
    logits = torch.zeros(BINS, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=0.5, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = wide_focal_loss(logits, torch.tensor(target), SPAN, width)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert expectation(logits.detach(), SPAN).item() == pytest.approx(target, abs=0.02)


def test_without_width_it_is_the_plain_loss() -> None:
    logits = torch.randn(3, 2, BINS, generator=torch.Generator().manual_seed(2))
    targets = torch.tensor([[0.0, 4.0], [1.3, 0.2], [9.0, 2.0]])
    plain = distribution_focal_loss(logits, targets, SPAN)
    torch.testing.assert_close(wide_focal_loss(logits, targets, SPAN, 0.0), plain)
