"""Read one YAML file into plain values, remembering the line of every key; environment variables are filled in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from eventide.types import UsageError

Key = tuple[str | int, ...]  # the way to a value: section names, then list positions

MAX_BYTES = 100_000  # far above any real configuration: a larger file is a mistake
MAX_NODES = 20_000  # values after aliases are followed: stops files that grow without end
MAX_DEPTH = 20
MAX_BASES = 20
MAX_LINES = 60  # of a message

_VARIABLE = re.compile(r"\$\$(?=\{)|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")
_SCALARS = {  # the number and truth forms that people write; unlike YAML 1.1, 1e-4 is a number and 1:30 is text
    "null": re.compile(r"^(?:~|null|Null|NULL|)$"),
    "bool": re.compile(r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
    "int": re.compile(r"^[-+]?[0-9]+$"),
    "float": re.compile(
        r"^[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: a line of a file, or one of `--set`, `default`, `derived`, ..."""

    text: str
    inherited: bool = False  # from a file named by `base:`
    variables: tuple[str, ...] = ()  # environment variables in the value

    def __str__(self) -> str:
        kind = "base " if self.inherited else ""
        variables = f" ({', '.join('$' + name for name in self.variables)})" if self.variables else ""
        return kind + self.text + variables


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: where (file and line), which key (may be empty), what and what to do."""

    where: str
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(UsageError):
    """Everything that is wrong with a configuration, in one message."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        lines = [str(problem) for problem in self.problems]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} problems in the configuration:")
        if len(lines) > MAX_LINES:
            lines[MAX_LINES:] = ["..."]
        super().__init__("\n  ".join(lines))


@dataclass
class Document:
    """A configuration file, or several merged: nested plain values, and the origin of each key."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)

    def merge(self, other: Document) -> None:
        """Lay `other` over this: sections are merged key by key, everything else is replaced."""
        _merge(self.values, other.values, (), self.origins)
        self.origins.update(other.origins)

    def as_base(self) -> Document:
        """The same with its origins marked as inherited."""
        return Document(self.values, {key: replace(origin, inherited=True) for key, origin in self.origins.items()})


def _merge(below: dict[str, Any], above: Mapping[str, Any], path: Key, origins: dict[Key, Origin]) -> None:
    for name, value in above.items():
        key = (*path, name)
        old = below.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value, key, origins)
        else:
            for stale in [known for known in origins if known[: len(key)] == key]:
                del origins[stale]
            below[name] = value


def dotted(key: Key) -> str:
    """The name of a key as users write it: `model.regression_range[0]`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def expand(text: str, environment: Mapping[str, str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Fill `${NAME}` and `${NAME:-default}` into `text`; `$${` is a literal `${`. Returns the text and the names.

    Raises:
        ValueError: a variable without a default is not set, or `${` is not followed by a name.
    """
    names: list[str] = []
    variables = os.environ if environment is None else environment

    def fill(match: re.Match[str]) -> str:
        name, default = match.groups()
        if match.group() == "$$":
            return "$"
        if name is None:
            raise ValueError("'${' starts an environment variable: write ${NAME} or ${NAME:-default}, or $${ for '${'")
        names.append(name)
        value = variables.get(name)
        if default is not None and not value:
            return default
        if value is None:
            raise ValueError(f"environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        return value

    return _VARIABLE.sub(fill, text), tuple(names)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - the name and form that PyYAML reads


class _Dumper(yaml.SafeDumper):
    """Puts quotes around texts that PyYAML's reader or ours would take for something else."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Texts of several lines stay on one, as `"a\\nb"`."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


for _kind, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, None)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, None)


def dump_yaml(value: Any, one_line: bool = False) -> str:
    """Plain values as YAML that `parse_yaml` reads back to equal ones, in block form or on one line."""
    form: dict[str, Any] = {"default_flow_style": one_line, "width": 10**6 if one_line else 120, "sort_keys": False}
    text: str = yaml.dump(_escaped(value), Dumper=_Dumper, allow_unicode=True, **form)
    if any(line_break in text for line_break in "\x85\u2028\u2029"):  # a reader would take them for new lines
        return str(yaml.dump(_escaped(value), Dumper=_Dumper, **form))
    return text


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def read_text(path: Path) -> str:
    """The text of a configuration file; one clear ConfigError where it cannot be read."""

    def refuse(message: str) -> ConfigError:
        return ConfigError([Problem(str(path), "", message)])

    try:
        if path.is_dir():
            raise refuse("is a folder, a configuration file was expected")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("no such configuration file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1000} kB, too large for a configuration file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"is not a text file (byte {error.start} is not UTF-8)") from None


def parse_yaml(text: str, name: str) -> tuple[Document, list[Problem]]:
    """The values of a YAML mapping with the line of each key, and what is wrong with it. Never raises for bad text.

    An empty text is an empty document. `name` stands for the file in origins and problems.
    """
    reader = _Reader(name)
    node = reader.compose(text)
    if isinstance(node, yaml.MappingNode):
        reader.document.values = reader.value(node, ()) or {}
    elif node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        reader.report(node, (), "must be a mapping of keys to values, such as `model:` and lines below it")
    return reader.document, reader.problems


def parse_value(text: str) -> Any:
    """The value of a YAML text, as after `--set key=`; raises ValueError with the reason where it is not one."""
    reader = _Reader("")
    node = reader.compose(text)
    value = None if node is None else reader.value(node, ())
    if reader.problems:
        raise ValueError(reader.problems[0].message)
    return value


def _is_text(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


class _TooLargeError(Exception):
    pass


def _limit(nodes: int, depth: int) -> None:
    if nodes > MAX_NODES:
        raise _TooLargeError(f"holds more than {MAX_NODES} values, too many for a configuration file")
    if depth > MAX_DEPTH:
        raise _TooLargeError(f"nested deeper than {MAX_DEPTH} levels")


def _check_size(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        _limit(count // 2, depth)  # about two events for each value


class _Reader:
    """Turns YAML nodes into plain values and collects origins and problems on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document = Document()
        self.problems: list[Problem] = []
        self.nodes = 0

    def compose(self, text: str) -> yaml.Node | None:
        """The root node of a text, None where there is none; what is wrong with it goes to `problems`."""
        try:
            _check_size(text)  # before nodes are made: their making is recursive, and slow for deep texts
            return _Loader(text).get_single_node()
        except yaml.reader.ReaderError:
            self.problems.append(Problem(self.name, "", "is not a text file (it holds control characters)"))
        except _TooLargeError as error:
            self.problems.append(Problem(self.name, "", str(error)))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self.name}:{mark.line + 1}" if mark else self.name
            parts = (error.context if (error.problem or "").startswith("but") else "", error.problem)
            self.problems.append(Problem(where, "", f"not valid YAML: {', '.join(part for part in parts if part)}"))
        return None

    def where(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def report(self, node: yaml.Node, key: Key, message: str) -> None:
        self.problems.append(Problem(self.where(node), dotted(key), message))

    def value(self, node: yaml.Node, key: Key) -> Any:
        """The plain value of a node that stands at `key`; what is wrong with it goes to `problems`."""
        try:
            return self._value(node, key)
        except _TooLargeError as error:
            self.problems.append(Problem(self.name, "", str(error)))
            return None

    def _value(self, node: yaml.Node, key: Key) -> Any:
        self.nodes += 1
        _limit(self.nodes, len(key))
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            items = []
            for index, item in enumerate(node.value):
                self.document.origins[(*key, index)] = Origin(self.where(item))
                items.append(self._value(item, (*key, index)))
            return items
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        self.report(node, key, f"the YAML tag {node.tag} is not read here")
        return None

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode) or not _is_text(name_node.value):
                self.report(name_node, key, "a key must be plain text")
                continue
            name = name_node.value
            below = (*key, name)
            if name == "<<":
                self.report(name_node, key, "YAML merge keys (<<) are not read; inherit with `base: other.yaml`")
                continue
            if name in values:
                self.report(name_node, below, f"given twice, first on line {lines[name]}; keep one of them")
                continue
            lines[name] = name_node.start_mark.line + 1
            self.document.origins[below] = Origin(self.where(name_node))
            known = len(self.problems)
            value = self._value(value_node, below)
            if len(self.problems) == known or isinstance(value, dict):  # one problem per value is enough
                values[name] = value
        return values

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Any:
        kind, text = node.tag.rpartition(":")[2], node.value
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() in ("yes", "true", "on")
            if kind == "int":
                return int(text)
            if kind == "float":
                return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text.lower()))
            if kind != "str":
                self.report(node, key, f"the YAML tag {node.tag} is not read here")
                return None
            if not _is_text(text):
                raise ValueError("holds a character that no text can have (NUL, or half of a surrogate pair)")
            filled, variables = expand(text)
        except ValueError as error:
            self.report(node, key, str(error) if kind == "str" else f"{text[:40]!r} is not a usable {kind}")
            return None
        if variables and key in self.document.origins:
            self.document.origins[key] = replace(self.document.origins[key], variables=variables)
        return filled
