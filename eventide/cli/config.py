"""`eventide config show` and `eventide config schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from eventide.config import Config
from eventide.config_loading import LoadedConfig, load_config_with_origins, value_to_yaml
from eventide.config_schema import expected, fields, section_class


def show(config: Path, *, set_: Annotated[list[str] | None, Parameter(name="--set")] = None) -> None:
    """Print a configuration as it will be used, each value with its origin.

    On a terminal a table; otherwise YAML with the origins as comments, which can be used as a configuration file.

    Args:
        config: configuration file.
        set_: overrides, such as opt.learning_rate=0.001; several may follow one --set.
    """
    loaded = load_config_with_origins(config, set_ or ())
    for notice in loaded.notices:
        print(f"note: {notice}", file=sys.stderr)
    if sys.stdout.isatty():
        _print_table(loaded)
    else:
        sys.stdout.write(as_commented_yaml(loaded))


def schema(*, markdown: bool = False) -> None:
    """Print the JSON schema of configuration files: every key with its type, default and explanation.

    Args:
        markdown: print the same as a table for people.
    """
    if markdown:
        sys.stdout.write(as_markdown())
    else:
        print(json.dumps(Config.model_json_schema(), indent=2))


def as_commented_yaml(loaded: LoadedConfig) -> str:
    """The resolved configuration as YAML, each value followed by its origin in a comment."""
    values, lines = loaded.config.model_dump(mode="json"), []
    for path in fields():
        value, present = _look_up(values, path)
        indent = "  " * (len(path) - 1)
        if present and path in loaded.origins:
            lines.append((f"{indent}{path[-1]}: {value_to_yaml(value)}", str(loaded.origins[path])))
        elif present:
            lines.append((f"{indent}{path[-1]}:", ""))
    column = min(max(len(line) for line, _ in lines), 60)
    return "".join(f"{line:<{column}}  # {origin}\n" if origin else f"{line}\n" for line, origin in lines)


def as_markdown() -> str:
    """All keys as Markdown tables, one per section, with what they accept, their default and their explanation."""
    tables: dict[str, list[str]] = {}
    for path, field in fields().items():
        section = ".".join(path[:-1])
        if section_class(field.annotation) is not None:
            tables.setdefault(".".join(path), [field.description or ""])
            continue
        default = value_to_yaml(_plain(field.get_default(call_default_factory=True))) if not field.is_required() else ""
        notes = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        later = " *Not available yet.*" if notes.get("not_available_yet") else ""
        if available := notes.get("available"):
            later = f" *Available now: {', '.join(available)}.*"  # type: ignore[arg-type]
        cells = (
            f"`{path[-1]}`",
            expected(field),
            f"`{default}`" if default else "required",
            f"{field.description}{later}",
        )
        tables.setdefault(section, [""]).append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    text = "# Configuration keys\n\nWritten by `eventide config schema --markdown` from the schema in `eventide/config.py`.\n"
    for section, (about, *rows) in sorted(tables.items(), key=lambda item: item[0] != ""):
        heading = f"\n## `{section}`\n\n{about}\n" if section else "\n## Top level\n"
        text += heading + (
            "\n| key | accepts | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n" if rows else ""
        )
    return text


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _look_up(values: Any, path: tuple[str, ...]) -> tuple[Any, bool]:
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return None, False
        values = values[name]
    return values, True


def _print_table(loaded: LoadedConfig) -> None:
    from rich.console import Console
    from rich.table import Table

    values = loaded.config.model_dump(mode="json")
    table = Table("key", "value", "origin", box=None, header_style="bold")
    for path, origin in loaded.origins.items():
        value, present = _look_up(values, path)
        if present:
            quiet = "dim" if str(origin) == "default" else ""
            table.add_row(".".join(path), value_to_yaml(value), str(origin), style=quiet)
    Console().print(table)
