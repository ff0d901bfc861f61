"""Ways to get point events wrong."""

from __future__ import annotations

from typing import Any

from tests.errors.cases_annotations import event
from tests.errors.error_case import ErrorCase


def click(time: Any, **other: Any) -> dict[str, Any]:
    return {"time": time, "label": "click", **other}


CASES = [
    ErrorCase(
        "points: time and segment",
        "gave an event both a `time` and a `segment`",
        event(click(3, segment=[3, 4])),
        'has both "time" and "segment"; keep "time" for a point event',
        1,
    ),
    ErrorCase("points: text", "put a time in quotes", event(click("3")), '"time" must be a finite number', 1),
    ErrorCase("points: negative", "gave a time before 0", event(click(-2)), "lies before the recording, at -2 s", 1),
    ErrorCase(
        "points: outside",
        "gave a time after the end of its recording",
        event(click(70)),
        r"the time \(70 s\) is after the recording, which lasts 60 s",
        1,
    ),
]
