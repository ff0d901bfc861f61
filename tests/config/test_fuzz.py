"""Whatever stands in a configuration file or after --set: a configuration, or one ConfigError. Never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eventide.config_loading import config_to_yaml, load_config, load_config_with_origins
from eventide.config_schema import fields, section_class
from eventide.config_writing import commented_yaml
from eventide.config_yaml import ConfigError, parse_yaml

FOLDER = Path(__file__).resolve().parents[2] / "configs"
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yaml"))]
LEAVES = [path for path, field in fields().items() if section_class(field.annotation) is None]
FLAT_KEYS = ["model_name", "init_rand_seed", "devices", "model", "dataset", "opt", "base", "n_mha_win_size", "embd_dim"]

keys = st.sampled_from([path[-1] for path in fields()] + FLAT_KEYS)
names = st.text(max_size=6) | keys
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["${HOME}", "${NOPE_X}", "${", "$${x}", "auto", "conv", "SnapFormer", ".pkl", "~", "1e-4"]),
)
values = st.recursive(
    scalars,
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(st.text(max_size=6) | keys, below, max_size=4)
    ),
    max_leaves=12,
)


def load(path: Path, overrides: list[str]) -> None:
    """Load, and check what must hold: a round trip, or a message of printable lines that name the file or --set."""
    loaded, problems = None, []
    try:
        loaded = load_config_with_origins(path, overrides)
    except ConfigError as error:
        problems = error.problems
    if loaded is None:
        assert problems
        assert all(problem.where == "--set" or problem.where.startswith(str(path.parent)) for problem in problems)
        return
    written = path.with_suffix(".again")
    for text in (config_to_yaml(loaded.config), commented_yaml(loaded.config, loaded.origins)):
        written.write_text(text, encoding="utf-8")
        assert load_config(written) == loaded.config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


@given(content=st.binary(max_size=300))
def test_any_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    load(path, [])


@given(text=st.text(max_size=200) | st.text("{}[]:,-&*!|>'\"%@`?#~ \n\tab1.", max_size=60))
def test_any_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    load(path, [])


@settings(max_examples=100)
@given(data=st.dictionaries(keys | st.text(max_size=6), values, max_size=5))
def test_any_mapping(path: Path, data: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    load(path, [])


@settings(max_examples=150)
@given(changes=st.lists(st.tuples(st.sampled_from(LEAVES), values), min_size=1, max_size=4))
def test_any_value_of_any_key(path: Path, changes: list[tuple[tuple[str, ...], Any]]) -> None:
    data: dict[str, Any] = {}
    for key, value in changes:
        below = data
        for name in key[:-1]:
            below = below.setdefault(name, {}) if isinstance(below.get(name, {}), dict) else {}
        below[key[-1]] = value
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    load(path, [])


@settings(max_examples=100)
@given(data=st.data())
def test_damaged_configurations(path: Path, data: st.DataObject) -> None:
    lines = data.draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["drop", "double", "cut", "insert", "indent"]))
        line = lines[number]
        place = data.draw(st.integers(0, len(line)))
        lines[number : number + 1] = {
            "drop": [""],
            "double": [line, line],
            "cut": [line[:place]],
            "insert": [line[:place] + data.draw(st.text(max_size=3)) + line[place:]],
            "indent": ["  " + line],
        }[kind]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    load(path, [])


@settings(max_examples=100)
@given(
    overrides=st.lists(
        st.builds(
            lambda key, value: f"{key}={value}",
            st.sampled_from([".".join(path) for path in fields()]) | st.text(max_size=12),
            st.text(max_size=12) | values.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
        )
        | st.text(max_size=12),
        max_size=3,
    )
)
def test_any_override(path: Path, overrides: list[str]) -> None:
    path.write_text("seed: 1\n", encoding="utf-8")
    load(path, overrides)


@given(text=st.text("abc:{}[],&*- \n12", max_size=80))
def test_lines_are_within_the_file(text: str) -> None:
    document, problems = parse_yaml(text, "f")
    for where in [origin.text for origin in document.origins.values()] + [problem.where for problem in problems]:
        line = where.partition(":")[2]
        assert not line or 1 <= int(line) <= text.count("\n") + 2
