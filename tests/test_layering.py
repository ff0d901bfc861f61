"""Imports go one way: types, ops -> layers -> models -> engine -> cli -> train.py. Checked on the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "eventide"
BASE = {"types", "config", "ops"}
# What each room may import beside itself. `config` stands for config.py and its neighbours config_*.py.
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "config": {"types"},
    "ops": {"types"},
    "layers": BASE,
    "models": BASE | {"layers"},
    "data": BASE,
    "evaluation": BASE,
    "video": BASE,
    "engine": BASE | {"layers", "models", "data", "evaluation", "video"},
    "report": BASE,
    "interop": BASE | {"layers", "models", "engine"},
    "cli": BASE | {"layers", "models", "data", "evaluation", "video", "engine", "report", "interop"},
    "__init__": {"types", "config", "engine", "interop"},  # eventide.load
    "__main__": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "config" if first.startswith("config_") else first


def imported_rooms(source: str, package: tuple[str, ...]) -> set[str]:
    """Rooms of eventide that a module in `package` (its dotted parts) imports, also inside functions and relatively."""
    dotted: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            dotted += [".".join([*base, alias.name]) for alias in node.names]
    parts = [name.split(".") for name in dotted]
    rooms = {p[1] for p in parts if p[0] == "eventide" and len(p) > 1 and p[1] not in ("__version__", "load", "*")}
    return {"config" if r.startswith("config_") else r for r in rooms}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_go_one_way(path: Path) -> None:
    own = room(path)
    assert own in MAY_IMPORT, f"{path} is in a room that the design does not know"
    package = ("eventide", *path.relative_to(PACKAGE).parent.parts)
    wrong = imported_rooms(path.read_text(encoding="utf-8"), package) - MAY_IMPORT[own] - {own}
    assert not wrong, f"{path.relative_to(PACKAGE.parent)} ({own}) imports {sorted(wrong)}"


def test_types_and_the_schema_import_nothing_of_other_rooms() -> None:
    for name, room_of_its_own in (("types.py", set()), ("config.py", {"config"})):
        imported = imported_rooms((PACKAGE / name).read_text(encoding="utf-8"), ("eventide",))
        assert imported == room_of_its_own


@pytest.mark.parametrize(
    ("label", "source", "rooms"),
    [
        ("absolute", "import eventide.engine.fit", {"engine"}),
        ("from", "from eventide.data import loader", {"data"}),
        ("room by name", "from eventide import models", {"models"}),
        ("relative, same room", "from .nms import batched_nms", {"ops"}),
        ("relative, other room", "from ..data.loader import collate", {"data"}),
        ("relative, room by name", "from .. import engine", {"engine"}),
        ("inside a function", "def f():\n    from eventide.cli import main", {"cli"}),
        ("a neighbour of config.py", "from eventide.config_loading import load_config", {"config"}),
        ("others' modules", "import numpy, torch.nn\nfrom eventidex.data import x", set()),
    ],
)
def test_the_reader_of_imports_sees(label: str, source: str, rooms: set[str]) -> None:
    assert imported_rooms(source, ("eventide", "ops")) == rooms
