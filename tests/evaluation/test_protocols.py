"""evaluation/protocols.py: thresholds of the published protocols, and those a user gives."""

from __future__ import annotations

import pytest

from eventide.evaluation.protocols import PROTOCOLS, thresholds_of
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
