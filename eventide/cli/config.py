"""`eventide config show` and `eventide config schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eventide.config_loading import LoadedConfig, load_config_with_origins
from eventide.config_writing import commented_yaml, json_schema, keys_as_markdown, look_up, value_to_yaml


def show(config: Path, *, set_: Annotated[list[str] | None, Parameter(name="--set")] = None) -> None:
    """Print a configuration as it will be used, each value with its origin.

    On a terminal a table; otherwise YAML with the origins as comments, which can be used as a configuration file.

    Args:
        config: Configuration file.
        set_: Overrides, such as opt.learning_rate=0.001; several may follow one --set.
    """
    loaded = load_config_with_origins(config, set_ or ())
    for notice in loaded.notices:
        print(f"note: {notice}", file=sys.stderr)
    if sys.stdout.isatty():
        _print_table(loaded)
    else:
        sys.stdout.write(commented_yaml(loaded.config, loaded.origins))


def schema(*, markdown: bool = False) -> None:
    """Print the JSON schema of configuration files: every key with its type, default and meaning.

    Args:
        markdown: Print the same as tables for people.
    """
    sys.stdout.write(keys_as_markdown() if markdown else json.dumps(json_schema(), indent=2) + "\n")


def _print_table(loaded: LoadedConfig) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    values = loaded.config.model_dump(mode="json")
    table = Table("key", "value", "origin", box=None, header_style="bold")
    for path, origin in loaded.origins.items():
        value, present = look_up(values, path)
        if present:
            cells = (".".join(map(str, path)), value_to_yaml(value), str(origin))
            table.add_row(*(Text(cell) for cell in cells), style="dim" if cells[-1] == "default" else "")
    Console().print(table)
