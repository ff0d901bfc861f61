"""Strict reading of JSON files, and problems of a file told in one message."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from eventide.types import EventideError, UsageError

SHOWN_PROBLEMS = 20


def read_json(path: str | Path, what: str) -> Any:
    """The content of a JSON file. `what` names it in messages ("results file").

    Refused: bytes that are not UTF-8, a key that occurs twice in one object, NaN and Infinity, nesting too deep.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        EventideError: it is not valid JSON; the message says where.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such {what}; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; give the path of a {what}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read the {what}: {getattr(error, 'strerror', None) or error}") from None
    return parse_json(data, f"{path}: the {what}")


def parse_json(data: bytes, name: str) -> Any:
    """The content of JSON bytes, as `read_json`; `name` begins every message."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EventideError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not text.strip():
        raise EventideError(f"{name} is empty")
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise EventideError(
            f"{name} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise EventideError(f"{name} is nested too deeply to read") from None
    except _BadJsonError as error:
        raise EventideError(f"{name} {error}") from None
    except ValueError:  # an integer of thousands of digits
        raise EventideError(f"{name} holds a number with too many digits to read") from None


class _BadJsonError(ValueError):
    """Valid to Python's parser, refused by us."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _BadJsonError(f"has the key {double!r} twice in one object; remove or rename one")
    return content


def _no_constant(name: str) -> NoReturn:
    raise _BadJsonError(f"holds {name}, which is no JSON number; mend what wrote it")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number (true and false are none)."""
    return type(value) in (float, int) and -sys.float_info.max <= value <= sys.float_info.max


def is_text(value: Any) -> bool:
    """Whether a JSON value is text that can be written again (escapes can spell halves of characters, which cannot)."""
    if type(value) is not str:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A JSON value as a short text for a message."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def raise_problems(name: str, problems: Sequence[str], advice: str = "") -> None:
    """Raise one EventideError that tells every problem of a file, if there is any; at most the first 20 in full."""
    if not problems:
        return
    tail = f" ({advice})" if advice else ""
    if len(problems) == 1:
        raise EventideError(f"{name}: {problems[0]}{tail}")
    lines = [f"  {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - SHOWN_PROBLEMS} more")
    raise EventideError("\n".join([f"{name}: {len(problems)} problems{tail}", *lines]))
