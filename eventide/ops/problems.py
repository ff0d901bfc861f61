"""One message out of many problems, so that a user mends all of them in one go."""

from __future__ import annotations

from collections.abc import Sequence

from eventide.types import EventideError

MAX_LISTED = 50


def problem_message(title: str, problems: Sequence[str], limit: int = MAX_LISTED) -> str:
    """`title: problem` for one problem; a counted list, one problem a line and `limit` at most, for several."""
    if len(problems) == 1:
        return f"{title}: {problems[0]}"
    lines = [f"{title}: {len(problems)} problems"]
    lines += [f"  - {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)


def raise_problems(title: str, problems: Sequence[str]) -> None:
    """Raise one `EventideError` that lists all problems; do nothing when there are none."""
    if problems:
        raise EventideError(problem_message(title, problems))


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are: 'a', 'b' and 7 more."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def words_of_system(error: OSError) -> str:
    """What the system says of a disk that is full, a folder that is gone, a permission that lacks; with the file."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
