"""Strict reading of JSON files."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from eventide.types import EventideError, UsageError


def read_json(path: str | Path, what: str, problems: list[str] | None = None) -> Any:
    """The content of a JSON file. `what` names it in messages ("results file").

    Refused: bytes that are not UTF-8, nesting too deep, a key that occurs twice in one object, NaN and Infinity. With
    `problems` the file is read on where it can be: a repeated key becomes an item of this list, and its last value
    counts; NaN and Infinity are left to the caller.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        EventideError: it is not valid JSON; the message says where.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such {what}; check the path") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; give the path of the {what}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot read the {what}: {getattr(error, 'strerror', None) or error}") from None
    return parse_json(data, f"{path}: the {what}", problems)


def parse_json(data: bytes, name: str, problems: list[str] | None = None) -> Any:
    """The content of JSON bytes, as `read_json`; `name` begins every message."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EventideError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not text.strip():
        raise EventideError(f"{name} is empty")
    constant = _no_constant if problems is None else float
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, problems), parse_constant=constant)
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


def _object(pairs: list[tuple[str, Any]], problems: list[str] | None) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        repeated = [(key, count) for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        found = [
            f"has the key {key!r} {count} times in one object; remove or rename all but one" for key, count in repeated
        ]
        if problems is None:
            raise _BadJsonError(found[0])
        problems += found
    return content


def _no_constant(name: str) -> NoReturn:
    raise _BadJsonError(f"holds {name}, which is no JSON number; mend what wrote it")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number (true and false are none)."""
    return type(value) in (float, int) and -sys.float_info.max <= value <= sys.float_info.max


def is_text(value: Any) -> TypeGuard[str]:
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
