"""evaluation/protocols.py: thresholds of the published protocols, and those a user gives."""

from __future__ import annotations

from typing import Any

import pytest

from eventide.evaluation.protocols import PROTOCOLS, SOCCERNET, choose_rule, thresholds_of
from eventide.types import UsageError


@pytest.mark.parametrize(
    ("protocol", "first", "last", "number"),
    [("thumos", 0.3, 0.7, 5), ("activitynet", 0.5, 0.95, 10), ("epic", 0.1, 0.5, 5), ("ego4d", 0.1, 0.5, 5)],
)
def test_protocols(protocol: str, first: float, last: float, number: int) -> None:
    thresholds = thresholds_of(protocol, None)
    assert (thresholds[0], thresholds[-1], len(thresholds)) == (first, last, number)


def test_given_thresholds_are_sorted_and_unique() -> None:
    assert thresholds_of(None, [0.5, 0.3, 0.5, 1.0]).tolist() == [0.3, 0.5, 1.0]


@pytest.mark.parametrize(
    ("protocol", "tiou", "message"),
    [
        (None, None, "exactly one"),
        (None, [], "exactly one"),
        ("thumos", [0.5], "exactly one"),
        ("thumos15", None, "unknown protocol 'thumos15'; the protocols are thumos, "),
        (None, [0.0], "--tiou 0 is no overlap"),
        (None, [0.5, 1.5], "--tiou 1.5 is no overlap"),
        (None, [float("nan")], "--tiou nan is no overlap"),
    ],
)
def test_wrong_use(protocol: str | None, tiou: list[float] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        thresholds_of(protocol, tiou)
    assert len(PROTOCOLS) == 4


OPTIONS: dict[str, Any] = {"protocol": None, "tiou": None, "tolerance": None, "tolerance_frames": None}


@pytest.mark.parametrize(
    ("options", "kind", "scored", "measure", "thresholds"),
    [
        ({"tiou": [0.5]}, None, "segments", "tiou", [0.5]),
        ({"protocol": "epic"}, "segments", "segments", "tiou", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"tolerance": [1, 0.5, 1]}, None, "points", "seconds", [0.5, 1]),
        ({"tolerance_frames": [2, 0]}, "points", "points", "frames", [0, 2]),
        ({"protocol": "soccernet-tight"}, "points", "points", "soccernet", [1, 2, 3, 4, 5]),
        ({}, "points", "points", "seconds", [0.25, 0.5, 1]),
        ({"tiou": [0.5]}, "points", "segments", "tiou", [0.5]),  # told apart from the results by the command
    ],
)
def test_rules(options: dict[str, Any], kind: Any, scored: str, measure: str, thresholds: list[float]) -> None:
    rule = choose_rule(**{**OPTIONS, **options}, kind=kind)
    assert (rule.kind, rule.measure) == (scored, measure)
    assert rule.thresholds.tolist() == pytest.approx(thresholds)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, "segments", "give exactly one of --protocol"),
        ({}, None, "point events are scored with --tolerance"),
        ({"tiou": [0.5], "tolerance": [1]}, None, "--tiou and --tolerance are different ways to score"),
        ({"tolerance": [1], "tolerance_frames": [1]}, "points", "--tolerance and --tolerance-frames are different"),
        ({"protocol": "soccernet-loose", "tolerance": [1]}, "points", "--protocol and --tolerance are different"),
        ({"protocol": "soccernet-loose", "tiou": [0.5]}, "points", "exactly one of --protocol"),
        ({"tolerance": [-1]}, "points", "--tolerance -1 is no tolerance"),
        ({"tolerance": [float("nan")]}, "points", "--tolerance nan is no tolerance"),
        ({"tolerance_frames": [-2]}, "points", "--tolerance-frames -2 is no tolerance"),
    ],
)
def test_rules_that_contradict(options: dict[str, Any], kind: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_rule(**{**OPTIONS, **options}, kind=kind)


def test_windows_of_soccernet() -> None:
    assert SOCCERNET["soccernet-loose"].tolist() == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
