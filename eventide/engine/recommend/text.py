"""A recommendation as a commented configuration file."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence

from eventide.config_writing import explained_yaml
from eventide.engine.recommend.advice import Advice

WIDTH = 116


def recommendation_text(advice: Advice, words: Sequence[str], name: str) -> str:
    """The text of the file `name`; `words` are those of the command line that led to it."""
    keys = {key: (choice.value, choice.reason) for key, choice in advice.keys().items()}
    parts = [shlex.join(["eventide", "recommend", *words]), "", *_commands(advice, name)]
    for note in advice.notes:
        parts += ["", *textwrap.wrap(note, WIDTH)]
    head = ["Each choice has its reason on its line; all other keys have their defaults. Written by", "", *parts]
    # `${` would be read as a variable only in values, and a comment ends with its line: names may hold anything else.
    return "".join(f"# {line}".rstrip() + "\n" for line in " \n".join(head).split("\n")) + "\n" + explained_yaml(keys)


def _commands(advice: Advice, name: str) -> list[str]:
    """What to type next, with the reason for each option of train.py."""
    options = advice.options()
    words: list[str] = []
    for key, choice in options.items():
        words += [key] if choice.value is True else [key, str(choice.value)]
    stem = shlex.quote(name)
    lines = [f"  eventide check {stem}", "  " + " ".join(["python train.py", stem, *words, "--output first"])]
    return [
        "Then:",
        "",
        *lines,
        *([""] if options else []),
        *(f"{key}: {item.reason}" for key, item in options.items()),
    ]
