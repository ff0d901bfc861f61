"""Heatmap targets, their loss and peaks, against slow references written out here."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.heatmap import around, heatmap_focal_loss, heatmap_targets, peaks

CLASSES = 3


def targets_of(events: list[tuple[float, float, int]], length: int = 12, stride: int = 1):  # type: ignore[no-untyped-def]
    """Targets of one sequence with events (time, width, label id); a label id of -1 is no event."""
    rows = torch.tensor([[[t - w, t + w] for t, w, _ in events]], dtype=torch.float32).reshape(1, len(events), 2)
    labels = torch.tensor([[label for *_, label in events]], dtype=torch.int64).reshape(1, len(events))
    return heatmap_targets(length, stride, rows, labels, CLASSES, torch.tensor([length - 1]))


CASES: list[tuple[str, list[tuple[float, float, int]], int, list[tuple[int, int, float]]]] = [
    # what, events, stride, (position, class, offset) that are exactly 1
    ("on a position", [(4.0, 0.0, 1)], 1, [(4, 1, 0.0)]),
    ("between two, nearer the first", [(4.3, 0.0, 0)], 1, [(4, 0, 0.3)]),
    ("between two, nearer the second", [(4.7, 0.0, 0)], 1, [(5, 0, -0.3)]),
    ("before the first position", [(-0.4, 0.0, 2)], 1, [(0, 2, -0.4)]),
    ("after the last position", [(11.4, 0.0, 2)], 1, [(11, 2, 0.4)]),
    ("two classes in one step", [(4.1, 0.0, 0), (4.3, 0.0, 1)], 1, [(4, 0, 0.1), (4, 1, 0.3)]),
    ("one class twice in one step", [(4.1, 0.0, 0), (4.4, 0.0, 0)], 1, [(4, 0, 0.1)]),
    ("one class in neighbouring steps", [(4.4, 0.0, 0), (4.6, 0.0, 0)], 1, [(4, 0, 0.4), (5, 0, -0.4)]),
    ("wide", [(4.3, 3.0, 0)], 1, [(4, 0, 0.3)]),
    ("a row that is no event", [(4.0, 0.0, -1), (7.0, 0.0, 1)], 1, [(7, 1, 0.0)]),
    ("positions two steps apart", [(8.6, 0.0, 1)], 2, [(4, 1, 0.3)]),
]


@pytest.mark.parametrize(("events", "stride", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_positions_of_events(
    events: list[tuple[float, float, int]], stride: int, expected: list[tuple[int, int, float]]
) -> None:
    found = targets_of(events, stride=stride)
    at = (found.heat[0] >= 1).nonzero().tolist()
    assert at == sorted([position, label] for position, label, _ in expected)
    for position, label, offset in expected:
        assert found.offset[0, position, label].item() == pytest.approx(offset, abs=1e-5)
        assert found.learns_offset[0, position, label]


def test_an_event_beyond_the_end_counts_at_the_last_real_position() -> None:
    """Whatever padding follows; rows of a batch end where each of them ends."""
    rows, label_ids = torch.tensor([[[9.8, 9.8]], [[6.3, 6.3]]]), torch.tensor([[0], [2]])
    found = heatmap_targets(15, 1, rows, label_ids, CLASSES, torch.tensor([9, 6]))
    assert (found.heat >= 1).nonzero().tolist() == [[0, 9, 0], [1, 6, 2]]
    assert found.offset[0, 9, 0].item() == pytest.approx(0.8, abs=1e-5)


def test_no_events() -> None:
    found = targets_of([])
    assert found.heat.shape == (1, 12, CLASSES)
    assert not found.heat.any()
    assert not found.offset.any()
    assert not found.learns_offset.any()


@given(
    st.lists(
        st.tuples(st.floats(-0.5, 11.5, width=32), st.floats(0, 4, width=32), st.integers(-1, CLASSES - 1)), max_size=6
    )
)
def test_equals_the_formula(events: list[tuple[float, float, int]]) -> None:
    found = targets_of(events)
    for position in range(12):
        for label in range(CLASSES):
            own = [(t, max(w, 1.0)) for t, w, other in events if other == label]
            values = [math.exp(-0.5 * ((position - t) / w) ** 2) for t, w in own]
            heat = found.heat[0, position, label].item()
            assert 0 <= heat <= 1
            if heat < 1:
                assert heat == pytest.approx(min(max(values, default=0.0), 1 - 1e-4), abs=2e-3)
            nearest = min((abs(t - position) for t, _ in own), default=math.inf)
            assert bool(found.learns_offset[0, position, label]) == (nearest < 1) or nearest == pytest.approx(1)
            if nearest < 0.99:
                assert abs(found.offset[0, position, label].item()) == pytest.approx(nearest, abs=1e-4)


LOGITS = torch.tensor([-30.0, -2.0, 0.0, 0.7, 30.0], dtype=torch.float32)


@pytest.mark.parametrize("heat", [0.0, 0.3, 0.9999, 1.0])
def test_focal_loss_equals_the_formula(heat: float) -> None:
    found = heatmap_focal_loss(LOGITS, torch.full_like(LOGITS, heat))
    for value, logit in zip(found.tolist(), LOGITS.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        if heat == 1:
            expected = (1 - p) ** 2 * math.log1p(math.exp(-logit))
        else:
            expected = (1 - heat) ** 4 * p**2 * math.log1p(math.exp(logit))
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_focal_loss_has_finite_gradients() -> None:
    logits = torch.tensor([-100.0, -5.0, 0.0, 5.0, 100.0], requires_grad=True)
    for heat in (0.0, 0.5, 1.0):
        heatmap_focal_loss(logits, torch.full((5,), heat)).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([0.1], [0], id="one position"),
        pytest.param([0.1, 0.5, 0.2], [1], id="in the middle"),
        pytest.param([0.5, 0.2, 0.6], [0, 2], id="at both ends"),
        pytest.param([0.3, 0.5, 0.5, 0.1], [1], id="of a plateau the first"),
        pytest.param([0.5, 0.5, 0.5], [0], id="flat"),
        pytest.param([0.1, 0.2, 0.3], [2], id="rising"),
    ],
)
def test_peaks(scores: list[float], expected: list[int]) -> None:
    found = peaks(torch.tensor(scores)[:, None])
    assert found[:, 0].nonzero().flatten().tolist() == expected


def test_classes_have_peaks_of_their_own() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.2, 0.3]])
    assert peaks(scores).nonzero().tolist() == [[0, 1], [1, 0], [2, 1]]


def test_score_around_a_position() -> None:
    logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    found = around(logits, torch.arange(9) < 7)
    for position in range(7):
        nothing = 1.0
        for other in range(max(position - 4, 0), min(position + 5, 7)):
            highest = min(logits[other, 1].item(), logits[position, 1].item())
            probability = 1 / (1 + math.exp(-highest))
            nothing *= (1 - probability) ** math.exp(-0.5 * ((other - position) / 1.25) ** 2)
        assert found[position, 1].item() == pytest.approx(1 - nothing, rel=1e-5)


def test_of_two_equal_peaks_the_one_with_neighbours_scores_more() -> None:
    scores = torch.tensor([0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.5, 0.8, 0.5, 0.0])[:, None]
    found = around(scores.logit(eps=1e-6), torch.ones(11, dtype=torch.bool))[:, 0]
    assert found[2].item() == pytest.approx(0.8, abs=1e-4)
    assert 0.8 < found[8] < 1


def test_what_is_beside_a_higher_peak_does_not_gain_from_it() -> None:
    scores = torch.tensor([0.001, 0.05, 0.02, 0.99, 0.3, 0.001])[:, None]
    found = around(scores.logit(), torch.ones(6, dtype=torch.bool))[:, 0]
    assert found[1] < 0.15
    assert found[3] > 0.99


def test_a_sure_event_stays_sure() -> None:
    logits = torch.tensor([-20.0, -20.0, 12.0, -20.0])[:, None]
    assert around(logits, torch.ones(4, dtype=torch.bool))[2, 0] > 0.999
