"""ops/rules.py: durations, gaps and overlaps of detections, against a plain version and by example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.rules import ROUNDING, Rules, allowed

Events = list[tuple[float, float, float, int]]  # start, end, score, label id


def rows_of(events: Events, rules: Rules, most: int = 100) -> list[int]:
    array = np.array(events, np.float64).reshape(-1, 4)
    return allowed(
        array[:, :2].astype(np.float32), array[:, 2].astype(np.float32), array[:, 3].astype(np.int64), rules, most
    ).tolist()


def plain(events: Events, rules: Rules, most: int) -> list[int]:
    """The same by the words of the documentation."""
    kept: list[int] = []
    for i in sorted(range(len(events)), key=lambda i: -events[i][2]):
        start, end, score, label = events[i]
        if score < rules.lowest_score[label] or len(kept) == most:
            continue
        if not rules.shortest[label] <= end - start <= rules.longest[label]:
            continue
        good = True
        for j in kept:
            other_start, other_end, _, other_label = events[j]
            shared = min(end, other_end) - max(start, other_start)
            union = max(end, other_end) - min(start, other_start)
            near = -shared < rules.min_gap[label]
            overlapping = shared > 0 and shared / union > rules.max_overlap[label]
            good &= other_label != label or not (near or overlapping)
        kept += [i] if good else []
    return kept


@st.composite
def event_lists(draw: st.DrawFn) -> Events:
    """Up to 25 events of up to three classes in eighths of a second, many of them tied, touching or points."""
    numbers = st.tuples(st.integers(0, 60), st.integers(0, 12), st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 2))
    drawn = draw(st.lists(numbers, max_size=25))
    return [(start / 8, (start + length) / 8, score, label) for start, length, score, label in drawn]


@st.composite
def rule_sets(draw: st.DrawFn) -> Rules:
    """Rules of three classes in eighths, which arithmetic hits exactly."""

    def column(*values: float) -> np.ndarray:
        return np.array([draw(st.sampled_from(values)) for _ in range(3)])

    return Rules(
        column(-np.inf, 0.5), column(0.0, 0.25), column(0.75, np.inf), column(-np.inf, 0.0, 0.5), column(0.0, 0.5, 1.0)
    )


@given(event_lists(), rule_sets(), st.integers(0, 30))
def test_equals_the_plain_version(events: Events, rules: Rules, most: int) -> None:
    assert rows_of(events, rules, most) == plain(events, rules, most)


@given(event_lists(), rule_sets(), st.integers(0, 30))
def test_fewer_are_the_first_of_more(events: Events, rules: Rules, most: int) -> None:
    assert rows_of(events, rules, most) == rows_of(events, rules, 1000)[:most]


@given(event_lists(), rule_sets())
def test_what_stayed_stays(events: Events, rules: Rules) -> None:
    kept = [events[row] for row in rows_of(events, rules)]
    assert rows_of(kept, rules) == list(range(len(kept)))


@given(event_lists(), rule_sets())
def test_classes_do_not_touch_one_another(events: Events, rules: Rules) -> None:
    together = rows_of(events, rules)
    for label in range(3):
        places = [i for i, event in enumerate(events) if event[3] == label]
        alone = rows_of([events[i] for i in places], rules)
        assert [places[i] for i in alone] == [i for i in together if events[i][3] == label]


TOUCHING: Events = [(0, 2, 0.9, 0), (2, 4, 0.8, 0), (3.5, 5, 0.7, 0), (6, 7, 0.6, 0)]
POINTS: Events = [(1.0, 1.0, 0.5, 0), (1.3, 1.3, 0.9, 0), (1.6, 1.6, 0.8, 0), (1.6, 1.6, 0.7, 0), (1.4, 1.4, 0.4, 1)]
NESTED: Events = [(0, 10, 0.9, 0), (0, 5, 0.8, 0), (4, 10, 0.7, 0), (2, 3, 0.6, 0)]


@pytest.mark.parametrize(
    ("label", "events", "rules", "expected"),
    [
        ("nothing", [], {}, []),
        ("no rule only sorts", [(0, 1, 0.5, 0), (0, 1, 0.9, 0)], {}, [1, 0]),
        ("ties stay in order", [(5, 6, 0.5, 0), (0, 1, 0.5, 0), (2, 3, 0.5, 0)], {}, [0, 1, 2]),
        ("ties within the gap: the first stays", [(0, 1, 0.5, 0), (1.5, 2, 0.5, 0)], {"min_gap": 1.0}, [0]),
        ("gap 0: touching events stay, overlapping ones do not", TOUCHING, {"min_gap": 0.0}, [0, 1, 3]),
        ("touching events are too near for any gap", TOUCHING, {"min_gap": 0.1}, [0, 2, 3]),
        ("gap met exactly", TOUCHING, {"min_gap": 1.0}, [0, 2, 3]),
        ("gap missed", TOUCHING, {"min_gap": 1.1}, [0, 2]),
        (
            "a dropped event drops nothing",
            [(0, 1, 0.9, 0), (1.5, 2, 0.8, 0), (2.1, 3, 0.7, 0)],
            {"min_gap": 1.0},
            [0, 2],
        ),
        ("points at their distance, rounded", POINTS, {"min_gap": 0.3}, [1, 2, 0, 4]),
        ("points a little nearer", POINTS, {"min_gap": 0.31}, [1, 4]),
        ("one place twice", POINTS, {"min_gap": 0.0}, [1, 2, 3, 0, 4]),
        ("two classes at one place", [(1, 2, 0.9, 0), (1, 2, 0.8, 1)], {"min_gap": 5.0}, [0, 1]),
        ("one class at one place", [(1, 2, 0.9, 0), (1, 2, 0.8, 0)], {"min_gap": 5.0}, [0]),
        ("overlap of a half stays at a half", NESTED, {"max_overlap": 0.5}, [0, 1, 3]),
        ("no overlap", NESTED, {"max_overlap": 0.0}, [0]),
        ("no overlap leaves touching", TOUCHING, {"max_overlap": 0.0}, [0, 1, 3]),
        ("any overlap", NESTED, {"max_overlap": 1.0}, [0, 1, 2, 3]),
        ("shortest, met exactly", NESTED, {"shortest": 5.0}, [0, 1, 2]),
        ("longest, met exactly", NESTED, {"longest": 5.0}, [1, 3]),
        ("too long to push others aside", NESTED, {"longest": 6.0, "max_overlap": 0.0}, [1]),
        ("length 0", [(1, 1, 0.9, 0)], {"shortest": 0.0, "longest": 0.0, "max_overlap": 0.0}, [0]),
        ("score met exactly", POINTS, {"lowest_score": 0.8}, [1, 2]),
    ],
)
def test_rules(label: str, events: Events, rules: dict[str, Any], expected: list[int]) -> None:
    assert rows_of(events, Rules.of_all(2, **rules)) == expected


def test_each_class_has_its_own_rules() -> None:
    rules = Rules.of_all(2)
    rules.min_gap[1] = 1.0
    rules.lowest_score[0] = 0.5
    events: Events = [(0, 1, 0.6, 0), (1, 2, 0.5, 0), (2, 3, 0.4, 0), (0, 1, 0.4, 1), (1, 2, 0.3, 1), (2, 3, 0.2, 1)]
    assert rows_of(events, rules) == [0, 1, 3, 5]


@pytest.mark.parametrize("most", [0, 1, 2])
def test_stops_at_the_most(most: int) -> None:
    assert rows_of(TOUCHING, Rules.of_all(1), most) == [0, 1][:most]


def test_late_times_have_the_rounding_of_float32() -> None:
    start = np.float32(20_000.1)
    events: Events = [(start, start, 0.9, 0), (start + np.float32(0.3), start + np.float32(0.3), 0.8, 0)]
    assert abs(events[1][0] - events[0][0] - 0.3) < ROUNDING * start
    assert rows_of(events, Rules.of_all(1, min_gap=0.3)) == [0, 1]
    assert rows_of(events, Rules.of_all(1, min_gap=0.32)) == [0]
