"""Load a configuration file: `base:` files, ActionFormer's flat form, `--set`, all problems reported at once."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eventide import config_actionformer as actionformer
from eventide.config import Config
from eventide.config_checks import Finding, find_contradictions, find_unavailable, value_at
from eventide.config_schema import expected, fields, leaf_of, nearest_key, section_class
from eventide.config_writing import config_to_yaml, value_to_yaml
from eventide.config_yaml import (
    MAX_BASES,
    ConfigError,
    Document,
    Key,
    Origin,
    Problem,
    dotted,
    parse_value,
    parse_yaml,
    read_text,
)

__all__ = ["LoadedConfig", "config_to_yaml", "load_config", "load_config_with_origins"]

logger = logging.getLogger("eventide")


@dataclass
class LoadedConfig:
    """A resolved configuration, where each of its values comes from, and what the user should know about it."""

    config: Config
    origins: dict[Key, Origin]  # of every key that is not a section
    notices: list[str] = field(default_factory=list)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The resolved configuration of a file, with `overrides` ("a.b=c", as after --set) on top. Notices are logged.

    Raises:
        ConfigError: (a UsageError) the file cannot be read, or anything in it is wrong; names every problem.
    """
    loaded = load_config_with_origins(path, overrides)
    for notice in loaded.notices:
        logger.warning("%s", notice)
    return loaded.config


def load_config_with_origins(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """As `load_config`, with the origin of every value; notices are returned and not logged."""
    reading = _Reading()
    return reading.finish(reading.chain(Path(path)), overrides, str(path))


def override_config(config: Config, overrides: Sequence[str], name: str) -> Config:
    """A resolved configuration, such as a model's, with `overrides` ("a.b=c") on top; messages call it `name`.

    Raises:
        ConfigError: an override is wrong, or contradicts the rest.
    """
    return _Reading().finish(Document(config.model_dump(mode="json")), overrides, name).config


class _Reading:
    """One load: collects the problems and notices of all its steps."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notices: list[str] = []

    def report(self, where: str, key: str, message: str) -> None:
        self.problems.append(Problem(where, key, message))

    def finish(self, document: Document, overrides: Sequence[str], name: str) -> LoadedConfig:
        """The configuration of a document with overrides on top; raises what was wrong in this and earlier steps."""
        for override in overrides:
            self.override(document, override)
        config, wrong = self.validate(document)
        if config is not None:
            self.check(config, document, wrong, name)
        if self.problems or config is None:
            raise ConfigError(sorted(self.problems, key=_by_line))
        resolved = config.resolve()
        return LoadedConfig(resolved, _origins(config, resolved, document), self.notices)

    def chain(self, path: Path) -> Document:
        """A file and the files that it inherits from, merged: the file itself on top."""
        documents: list[Document] = []
        seen: list[str] = []
        flat = False
        while True:
            document, problems = parse_yaml(read_text(path), str(path))
            self.problems += problems
            seen.append(os.path.realpath(path))
            inherits = "base" in document.values
            base, origin = document.values.pop("base", None), document.origins.pop(("base",), Origin(str(path)))
            if not problems and not document.values and not inherits:
                self.report(str(path), "", "is empty; a configuration needs at least dataset.json_file and feat_folder")
            self.notices += actionformer.read_devices(document)
            if mark := actionformer.flat_mark(document.values):
                flat = True
                document, problems = actionformer.translate(document, mark)
                self.problems += problems
            documents.append(document.as_base() if len(seen) > 1 else document)
            below = self._base_path(path, base, origin, seen) if inherits else None
            if below is None:
                break
            path = below
        merged = Document()
        for document in reversed(documents):
            merged.merge(document)
        if flat:
            bottom = actionformer.defaults_for(merged.values)
            bottom.merge(merged)
            return bottom
        return merged

    def _base_path(self, path: Path, base: Any, origin: Origin, seen: list[str]) -> Path | None:
        """The file that `base:` names, relative to the file that names it; None where it cannot be used."""
        if not isinstance(base, str) or not base:
            self.report(origin.text, "base", f"must be the path of a configuration file, got {_shown(base)}")
            return None
        below = Path(os.path.normpath(path.parent / base))
        if os.path.realpath(below) in seen:
            self.report(origin.text, "base", f"{below} inherits from itself, directly or through other files")
        elif len(seen) >= MAX_BASES:
            self.report(origin.text, "base", f"more than {MAX_BASES} files inherit from one another")
        else:
            try:
                read_text(below)
                return below
            except ConfigError as error:
                self.problems += [Problem(origin.text, "base", str(problem)) for problem in error.problems]
        return None

    def override(self, document: Document, text: str) -> None:
        """Lay one `a.b=c` over a document."""
        name, equals, written = text.partition("=")
        parts = tuple(name.strip().split("."))
        if not equals or not all(parts):
            self.report("--set", text[:60], "must have the form section.key=value, such as opt.learning_rate=0.001")
            return
        if parts == ("base",):
            self.report("--set", "base", "can only be given in a file")
            return
        try:
            value = parse_value(written)
        except ValueError as error:
            self.report("--set", name.strip(), str(error))
            return
        above: Any = value
        for part in reversed(parts):
            above = {part: above}
        origins: dict[Key, Origin] = {}
        _note_origins(above, (), Origin("--set"), origins)
        document.merge(Document(above, origins))

    def validate(self, document: Document) -> tuple[Config | None, set[str]]:
        """The configuration of a document, without those keys that have problems, and their names."""
        values = copy.deepcopy(document.values)
        _drop_empty_sections(values)
        wrong = {problem.key for problem in self.problems}
        for _ in range(5):  # the second pass is clean, except where dropping a key left another one missing
            try:
                return Config.model_validate(values), wrong
            except ValidationError as error:
                details = error.errors(include_url=False, include_context=False)
            explained = [_explain(document, values, detail) for detail in details]
            for key, problem in dict(reversed(explained)).items():
                self.problems.append(problem)  # the first of a key: each member of a union and each item makes one
                wrong.add(dotted(key))
                _remove(values, key)
        return None, wrong

    def check(self, config: Config, document: Document, wrong: set[str], name: str) -> None:
        """Report contradictions and missing parts, except those that hang on a key already known to be wrong."""
        for finding in [*find_unavailable(config), *find_contradictions(config)]:
            if any(key == bad or key.startswith(bad + ".") for key in finding.keys for bad in wrong):
                continue
            where = self._where(finding, document) or name
            if finding.warning:
                self.notices.append(str(Problem(where, finding.keys[0], finding.message)))
            else:
                self.report(where, finding.keys[0], finding.message)

    @staticmethod
    def _where(finding: Finding, document: Document) -> str:
        keys = [tuple(key.split(".")) for key in finding.keys]
        return next((document.origins[key].text for key in keys if key in document.origins), "")


def _explain(document: Document, values: dict[str, Any], detail: Any) -> tuple[Key, Problem]:
    """One error of pydantic in our words, and the key that is to be left out for the others to be found."""
    location = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        hint = nearest_key(tuple(map(str, location)), actionformer.ALIASES)
        return location, Problem(_origin(document, location), dotted(location), f"unknown key; {hint}")
    key, known = leaf_of(location)
    if detail["type"] == "missing" and known is not None and key == location:
        message = f"is missing; it must be {expected(known)}"
        return key[:-1], Problem(_origin(document, key[:-1]), ".".join(key), message)
    value: Any = values
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    words = expected(known) if known is not None else "a section of keys"
    return key, Problem(_origin(document, location), ".".join(key), f"must be {words}, got {_shown(value)}")


def _origins(given: Config, resolved: Config, document: Document) -> dict[Key, Origin]:
    """Origin of every value of a resolved configuration."""
    origins: dict[Key, Origin] = {}
    for path, known in fields().items():
        if section_class(known.annotation) is not None and value_at(resolved, path) is not None:
            continue
        before, after = value_at(given, path), value_at(resolved, path)
        variables = {
            name for key, origin in document.origins.items() if key[: len(path)] == path for name in origin.variables
        }
        if path in document.origins and not (before is None and after is not None):
            origin = document.origins[path]
            origins[path] = Origin(origin.text, origin.inherited, tuple(sorted(variables)))
        else:
            origins[path] = Origin("default" if before == after else "derived")
    return origins


def _origin(document: Document, key: Key) -> str:
    """Where a key, or the nearest thing around it, was given; empty where nowhere."""
    for length in range(len(key), 0, -1):
        if key[:length] in document.origins:
            return document.origins[key[:length]].text
    return ""


def _note_origins(value: Any, key: Key, origin: Origin, origins: dict[Key, Origin]) -> None:
    if key:
        origins[key] = origin
    if isinstance(value, dict):
        for name, below in value.items():
            _note_origins(below, (*key, name), origin, origins)


def _drop_empty_sections(values: dict[str, Any]) -> None:
    """A section whose keys are all left out or commented out is null in YAML: it means all defaults."""
    for path, known in fields().items():
        if section_class(known.annotation) is None or known.default is None:
            continue
        section: Any = values
        for part in path[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and path[-1] in section and section[path[-1]] is None:
            del section[path[-1]]


def _remove(values: dict[str, Any], key: Key) -> None:
    section: Any = values
    for part in key[:-1]:
        section = section.get(part) if isinstance(section, dict) else None
    if isinstance(section, dict):
        section.pop(key[-1], None)


def _by_line(problem: Problem) -> tuple[bool, str, int]:
    """Sorts problems as a reader meets them: by file and line, those of `--set` last."""
    file, _, line = problem.where.rpartition(":")
    if not line.isdecimal():
        file, line = problem.where, "0"
    return problem.where == "--set", file, int(line)


def _shown(value: Any) -> str:
    text = value_to_yaml(value)
    return text if len(text) <= 60 else text[:57] + "..."
