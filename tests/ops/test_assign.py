"""ops/assign.py: against one loop over points and events, and the laws of eligible points."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eventide.ops.assign import SAME_LENGTH, assign_targets, eligible_points
from eventide.ops.points import pyramid_points

CLASSES = 3
LENGTHS, STRIDES, RANGES = (24, 12, 6), (1, 2, 4), ((0.0, 4.0), (4.0, 8.0), (8.0, math.inf))
POINTS = pyramid_points(LENGTHS, STRIDES, RANGES)
# Quarters of a grid step are exact in float32, so that the reference may compare exactly, boundaries included.
QUARTERS = st.integers(-8, 120).map(lambda number: number / 4)
EVENT = st.tuples(QUARTERS, QUARTERS, st.integers(-1, CLASSES - 1)).map(lambda e: (min(e[:2]), max(e[:2]), e[2]))
EVENTS = st.lists(EVENT, max_size=5)
RADIUS = st.sampled_from([None, 0.5, 1.5, 3.0])


def tensors(events: list[tuple[float, float, int]]) -> tuple[Tensor, Tensor]:
    """Events (start, end, class) to segments (1, G, 2) and label ids (1, G)."""
    segments = torch.tensor([event[:2] for event in events], dtype=torch.float32).reshape(1, -1, 2)
    return segments, torch.tensor([[event[2] for event in events]], dtype=torch.int64).reshape(1, -1)


def learned_by(point: int, events: list[tuple[float, float, int]], radius: float | None) -> list[int]:
    """Numbers of the events that one point may learn."""
    position, stride, nearest, farthest = (
        getattr(POINTS, name)[point].item() for name in ("position", "stride", "nearest", "farthest")
    )
    found = []
    for number, (start, end, label_id) in enumerate(events):
        low, high = start, end
        if radius is not None:
            low = max(low, (start + end) / 2 - radius * stride)
            high = min(high, (start + end) / 2 + radius * stride)
        farther = max(position - start, end - position)
        if label_id >= 0 and low < position < high and nearest <= farther <= farthest:
            found.append(number)
    return found


def check_against_loop(events: list[tuple[float, float, int]], radius: float | None) -> None:
    classes, distances = assign_targets(POINTS, *tensors(events), CLASSES, radius)
    assert classes.shape == (1, sum(LENGTHS), CLASSES)
    assert distances.shape == (1, sum(LENGTHS), 2)
    for point in range(sum(LENGTHS)):
        eligible = learned_by(point, events, radius)
        shortest = min((events[e][1] - events[e][0] for e in eligible), default=math.inf)
        shared = [e for e in eligible if events[e][1] - events[e][0] <= shortest + SAME_LENGTH]
        expected = [float(any(events[e][2] == label_id for e in shared)) for label_id in range(CLASSES)]
        assert classes[0, point].tolist() == expected, point
        if eligible:
            position, stride = POINTS.position[point].item(), POINTS.stride[point].item()
            possible = [((position - events[e][0]) / stride, (events[e][1] - position) / stride) for e in shared]
            assert any(distances[0, point].tolist() == pytest.approx(pair, abs=1e-3) for pair in possible), point


@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize(
    ("label", "events"),
    [
        ("no events", []),
        ("one", [(2.0, 7.0, 1)]),
        ("shorter one inside a longer", [(0.0, 12.0, 0), (4.0, 7.0, 2)]),
        ("the same twice", [(2.0, 7.0, 1), (2.0, 7.0, 1)]),
        ("equal lengths, two classes", [(2.0, 8.0, 0), (3.0, 9.0, 2)]),
        ("lengths that count as equal", [(2.0, 8.0, 0), (2.0, 8.0005, 1)]),
        ("lengths that do not", [(2.0, 8.0, 0), (2.0, 8.002, 1)]),
        ("padded row alone", [(2.0, 7.0, -1)]),
        ("padded row is shorter", [(4.0, 6.0, -1), (2.0, 8.0, 0)]),
        ("no length", [(4.0, 4.0, 0)]),
        ("ends before it starts", [(7.0, 4.0, 0)]),
        ("points on both boundaries", [(4.0, 5.0, 0)]),
        ("between two points", [(4.25, 4.75, 0)]),
        ("reaches beyond the sequence", [(-6.0, 60.0, 2)]),
        ("outside the sequence", [(200.0, 208.0, 1)]),
    ],
)
def test_against_loop(label: str, events: list[tuple[float, float, int]], radius: float | None) -> None:
    check_against_loop(events, radius)


@given(EVENTS, RADIUS)
def test_against_loop_at_random(events: list[tuple[float, float, int]], radius: float | None) -> None:
    check_against_loop(events, radius)


def test_events_outside_every_range() -> None:
    points = pyramid_points((24,), (1,), [(2.0, 4.0)])
    segments, label_ids = tensors([(3.0, 4.5, 0), (0.0, 20.0, 1)])
    assert assign_targets(points, segments, label_ids, CLASSES, None)[0].sum() == 0


def test_range_includes_both_of_its_ends() -> None:
    points = pyramid_points((12,), (1,), [(3.0, 4.0)])
    positive = assign_targets(points, *tensors([(2.0, 8.0, 0)]), CLASSES, None)[0][0, :, 0].nonzero().flatten()
    assert positive.tolist() == [4, 5, 6]  # farther distances 4, 3, 4


@given(st.lists(EVENTS, min_size=2, max_size=4), RADIUS)
def test_rows_of_a_batch_are_independent(rows: list[list[tuple[float, float, int]]], radius: float | None) -> None:
    longest = max(map(len, rows))
    padded = [row + [(0.0, 0.0, -1)] * (longest - len(row)) for row in rows]
    alone = [tensors(row) for row in padded]
    segments, label_ids = (torch.cat(parts) for parts in zip(*alone, strict=True))
    classes, distances = assign_targets(POINTS, segments, label_ids, CLASSES, radius)
    for number, row in enumerate(rows):
        own_classes, own_distances = assign_targets(POINTS, *tensors(row), CLASSES, radius)
        assert torch.equal(classes[number], own_classes[0])
        positive = own_classes[0].any(dim=1)
        assert torch.equal(distances[number][positive], own_distances[0][positive])


@given(EVENTS.filter(len), RADIUS)
def test_eligible_points_lie_inside_their_events(events: list[tuple[float, float, int]], radius: float | None) -> None:
    segments, label_ids = tensors(events)
    eligible, left, right = eligible_points(POINTS, segments, label_ids, radius)
    assert eligible.shape == left.shape == right.shape == (1, sum(LENGTHS), len(events))
    assert (torch.minimum(left, right)[eligible] > 0).all()
    position = POINTS.position[None, :, None]
    assert torch.equal(position - left, segments[:, None, :, 0].expand_as(left))
    assert torch.equal(position + right, segments[:, None, :, 1].expand_as(right))
    within_any_reach = eligible_points(POINTS, segments, label_ids, None)[0]
    assert not (eligible & ~within_any_reach).any()  # centre sampling only takes points away
