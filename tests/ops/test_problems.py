"""ops/problems.py: one message for many problems."""

from __future__ import annotations

import pytest

from eventide.ops.problems import name_some, problem_message, raise_problems
from eventide.types import EventideError


@pytest.mark.parametrize(
    ("label", "problems", "message"),
    [
        ("one", ["a"], "F: a"),
        ("as many as are listed", ["a", "b"], "F: 2 problems\n  - a\n  - b"),
        ("more", ["a", "b", "c"], "F: 3 problems\n  - a\n  - b\n  ... and 1 more"),
    ],
)
def test_message(label: str, problems: list[str], message: str) -> None:
    assert problem_message("F", problems, limit=2) == message


def test_raising() -> None:
    raise_problems("F", [])
    with pytest.raises(EventideError, match=r"^F: a$"):
        raise_problems("F", ["a"])


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "'a'"), (["a", "b"], "'a', 'b'"), (["a", "b", "c"], "'a', 'b' and 1 more")]
)
def test_naming_some(names: list[str], text: str) -> None:
    assert name_some(names, limit=2) == text
