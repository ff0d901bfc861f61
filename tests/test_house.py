"""Habits of the house that a machine can check: short files and functions, safe loading, nothing half done."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(REPOSITORY / "eventide").rglob("*.py"), *REPOSITORY.glob("*.py")])
ALL_PYTHON = sorted([*SOURCES, *(REPOSITORY / "benchmarks").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")])
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
UNSAFE = {
    "pickled arrays": r"allow_pickle\s*=\s*True",
    "unrestricted torch.load": r"weights_only\s*=\s*False",
    "unsafe YAML": r"yaml\.(load|unsafe_load|full_load)\(",
    "pickle": r"\bpickle\.(loads?|Unpickler)\(|\bimport (dill|cloudpickle)\b",
    "code from strings": r"(?<![\w.])(eval|exec)\(",
}
HALF_DONE = {
    "left for later": r"#\s*(TODO|FIXME|XXX)",
    "not written": r"NotImplementedError",
    "swallowed error": r"except(\s+(Base)?Exception)?\s*:\s*(pass|\.\.\.)\s*$",
}


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def lines_with(pattern: str, paths: list[Path]) -> list[str]:
    """`file:line: text` of every line that the pattern finds, strings and comments included."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=named(SOURCES))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    long = [
        f"{node.name} (line {node.lineno}) has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("pattern", UNSAFE.values(), ids=UNSAFE.keys())
def test_nothing_unsafe(pattern: str) -> None:
    assert lines_with(pattern, SOURCES) == []


@pytest.mark.parametrize("pattern", HALF_DONE.values(), ids=HALF_DONE.keys())
def test_nothing_half_done(pattern: str) -> None:
    assert lines_with(pattern, SOURCES) == []


def test_user_mistakes_are_not_asserted() -> None:
    """An assert vanishes under `python -O` and gives a traceback; what a user can get wrong raises EventideError."""
    asserts = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []


def test_nothing_needs_a_folder_beside_the_repository() -> None:
    """Only the fixture in tests/conftest.py knows of reference data beside the repository, and it skips."""
    texts = [
        REPOSITORY / "Makefile",
        REPOSITORY / ".ci" / "run",
        REPOSITORY / "README.md",
        REPOSITORY / "pyproject.toml",
    ]
    texts += [
        path
        for folder in ("configs", "docs")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".md", ".yaml")
    ]
    texts += [path for path in ALL_PYTHON if path.parent != REPOSITORY / "tests"]
    assert lines_with(r"\.\./shared|/work/", [path for path in texts if path.exists()]) == []


def test_every_test_folder_mirrors_a_room() -> None:
    rooms = {path.stem for path in (REPOSITORY / "eventide").iterdir()}
    known = rooms | {"reference", "errors", "benchmarks", "__pycache__"}
    assert {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir()} <= known
