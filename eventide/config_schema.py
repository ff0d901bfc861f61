"""Questions to the schema: which keys there are, what a key accepts in plain words, which known key is the nearest."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eventide.config import Config

_SHORT = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "workers": "num_workers"}


def section_class(annotation: Any) -> type[BaseModel] | None:
    """The section class of a field annotation (`Section` or `Section | None`), None for a plain value."""
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def walk(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of the schema with its field, in order; a section comes before its keys."""
    for name, field in model.model_fields.items():
        key = (*path, name)
        yield key, field
        if (below := section_class(field.annotation)) is not None:
            yield from walk(below, key)


@cache
def fields() -> dict[tuple[str, ...], FieldInfo]:
    """All keys of the schema, sections included."""
    return dict(walk())


def leaf_of(location: tuple[Any, ...]) -> tuple[tuple[str, ...], FieldInfo | None]:
    """The longest beginning of `location` that is a key of the schema, and its field (None: there is none)."""
    known: tuple[str, ...] = ()
    for length in range(1, len(location) + 1):
        if location[:length] not in fields():
            break
        known = location[:length]
    return known, fields().get(known)


def nearest_key(key: tuple[str, ...], aliases: dict[str, str] | None = None) -> str:
    """A hint for an unknown key: the known one that was most likely meant, or the keys that are possible there.

    `aliases` are names of another tool (its own key -> ours), tried before any similarity.
    """
    name, section, known = _SHORT.get(key[-1], key[-1]), key[:-1], fields()
    if "." in name and tuple(name.split(".")) in known:
        *sections, last = name.split(".")
        return f"write it below its section: `{': '.join(sections)}:`, and `{last}:` indented on the next line"
    if (*section, name) in known:
        return f"did you mean {'.'.join((*section, name))}?"
    alias = (aliases or {}).get(".".join(key), "")
    if alias and not alias.endswith(f".{name}"):
        return f"ActionFormer's name; here it is {alias}"
    siblings = [path[-1] for path in known if path[:-1] == section]
    if close := difflib.get_close_matches(name, siblings, 1, 0.75):
        return f"did you mean {'.'.join((*section, close[0]))}?"
    if same := [path for path in known if path[-1] == name]:
        return f"did you mean {' or '.join('.'.join(path) for path in same)}?"
    if len(name) > 2 and (start := [known for known in siblings if name.startswith(known) or known.startswith(name)]):
        return f"did you mean {'.'.join((*section, max(start, key=len)))}?"
    if close := difflib.get_close_matches(name, siblings, 1, 0.55):
        return f"did you mean {'.'.join((*section, close[0]))}?"
    by_name = {path[-1]: path for path in known}
    if close := difflib.get_close_matches(name, list(by_name), 1, 0.75):
        return f"did you mean {'.'.join(by_name[close[0]])}?"
    return f"known here: {', '.join(siblings)}"


def expected(field: FieldInfo) -> str:
    """What a key accepts, in plain words: `a whole number, at least 1, or null`."""
    if any(getattr(limit, "pattern", None) for limit in field.metadata):
        return f"one of {field.description}".rstrip(".")
    words = _words(field.annotation)
    limits = _limits(field.metadata)
    if words.endswith(" or null") and limits:
        return f"{words.removesuffix(' or null')}{limits}, or null"
    return words + limits


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


_NAMES = {
    bool: ("true or false", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
}


def _words(annotation: Any, plural: bool = False) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], plural) + _limits(arguments[1:])
    if origin in (Union, types.UnionType):
        ordered = sorted(arguments, key=lambda member: member is type(None))
        return " or ".join(_words(member) for member in ordered)
    if origin is Literal:
        if len(arguments) == 1:
            return f"the word {arguments[0]}"
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin is list:
        return f"{'lists' if plural else 'a list'} of {_words(arguments[0], plural=True)}"
    if origin is tuple:
        if arguments == (float, float):
            return "pairs of numbers [low, high]" if plural else "two numbers [low, high]"
        return f"{len(arguments)} {_words(_members(arguments[0])[0], plural=True)}"
    if origin is dict:
        return f"a mapping of labels to {_words(arguments[1], plural=True)}"
    if section_class(annotation) is not None:
        return "a section of keys"
    return _NAMES[annotation][plural]


def _limits(metadata: Any) -> str:
    """`, at least 0, less than 1` from annotated limits."""
    words = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}
    parts = []
    for limit in metadata:
        for item in [limit, *getattr(limit, "metadata", ())]:
            parts += [f", {word} {getattr(item, name)}" for name, word in words.items() if _has(item, name)]
            if getattr(item, "min_length", None):
                parts.append(", not empty")
    return "".join(dict.fromkeys(parts))


def _has(limit: Any, name: str) -> bool:
    return not isinstance(limit, FieldInfo) and getattr(limit, name, None) is not None
