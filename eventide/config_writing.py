"""Write a configuration, or the keys of the schema, for people and for files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventide.config import Config
from eventide.config_schema import expected, fields, section_class
from eventide.config_yaml import Key, Origin, dump_yaml

_BASE = "Configuration file to inherit from, relative to this one; what stands here is laid over it."


def json_schema() -> dict[str, Any]:
    """JSON schema of configuration files: every key with its type, default and meaning."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    schema["properties"] = {"base": {"type": "string", "description": _BASE}, **schema["properties"]}
    return schema


def config_to_yaml(config: Config) -> str:
    """A configuration as YAML that `load_config` reads back to an equal one."""
    return dump_yaml(config.model_dump(mode="json"))


def value_to_yaml(value: Any) -> str:
    """One value as YAML on one line."""
    return dump_yaml(value, one_line=True).removesuffix("...\n").strip()


def commented_yaml(config: Config, origins: Mapping[Key, Origin]) -> str:
    """A resolved configuration as YAML, each value followed by its origin in a comment."""
    values = config.model_dump(mode="json")
    lines: list[tuple[str, str]] = []
    for path, field in fields().items():
        value, present = look_up(values, path)
        indent = "  " * (len(path) - 1)
        if present and section_class(field.annotation) is not None and value is not None:
            lines.append((f"{indent}{path[-1]}:", ""))
        elif present:
            lines.append((f"{indent}{path[-1]}: {value_to_yaml(value)}", str(origins.get(path, ""))))
    column = min(max(len(line) for line, _ in lines), 60)
    return "".join(f"{line:<{column}}  # {origin}\n" if origin else f"{line}\n" for line, origin in lines)


def explained_yaml(choices: Mapping[str, tuple[Any, str]]) -> str:
    """Keys ("a.b") with value and reason as YAML in the order of the schema, each reason a comment on its line."""
    lines: list[tuple[str, str]] = []
    for path, field in fields().items():
        name, indent = ".".join(path), "  " * (len(path) - 1)
        if section_class(field.annotation) is not None and any(key.startswith(f"{name}.") for key in choices):
            lines.append((f"{indent}{path[-1]}:", ""))
        elif name in choices:
            value, reason = choices[name]
            lines.append((f"{indent}{path[-1]}: {value_to_yaml(value)}", " ".join(reason.split())))
    column = min(max((len(line) for line, reason in lines if reason), default=0), 44)
    return "".join(f"{line:<{column}}  # {reason}\n" if reason else f"{line}\n" for line, reason in lines)


def keys_as_markdown() -> str:
    """All keys as Markdown tables, one per section: what they accept, their default, what they mean."""
    tables: dict[str, tuple[str, list[str]]] = {"": ("", [f"| `base` | text | none | {_BASE} |"])}
    for path, field in fields().items():
        if section_class(field.annotation) is not None:
            tables[".".join(path)] = (field.description or "", [])
            continue
        notes = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        meaning = field.description or ""
        if notes.get("not_available_yet"):
            meaning += " *Not available yet.*"
        elif available := notes.get("available"):
            meaning += f" *Available now: {', '.join(available)}.*"  # type: ignore[arg-type]
        default = "required"
        if not field.is_required():
            default = f"`{value_to_yaml(field.get_default(call_default_factory=True))}`"
        row = " | ".join((f"`{path[-1]}`", expected(field), default, meaning))
        tables[".".join(path[:-1])][1].append(f"| {row} |")
    parts = ["# Configuration keys", "Written from the schema by `eventide config schema --markdown`."]
    for section, (about, rows) in tables.items():
        parts += [f"## `{section}`", about] if section else ["## Top level"]
        if rows:
            parts.append("\n".join(["| key | accepts | default | meaning |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def look_up(values: Any, path: tuple[str | int, ...]) -> tuple[Any, bool]:
    """The value at a path of nested mappings, and whether there is one."""
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return None, False
        values = values[name]
    return values, True
