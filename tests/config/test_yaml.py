"""Reading YAML: types of scalars, lines of keys, environment variables, and texts that are none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.config_yaml import (
    ConfigError,
    Document,
    Origin,
    Problem,
    dotted,
    dump_yaml,
    expand,
    parse_value,
    parse_yaml,
    read_text,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("007", 7),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e-4", 1e-4),
        ("1.e-4", 1e-4),
        ("-1E+3", -1000.0),
        ("true", True),
        ("Off", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("none", "none"),
        ("'1'", "1"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("[0, 4]", [0, 4]),
        ("{a: 1}", {"a": 1}),
        ("a: b", {"a": "b"}),
        ("two words", "two words"),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["[1, 2", "a: b: c", "{", "!!python/object:os.system x", "!!int x", "9" * 5000, "*a"])
def test_values_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_value(text)


def test_infinity_and_nan_are_read_as_such() -> None:
    assert parse_value("-.inf") == float("-inf")
    assert math.isnan(parse_value(".nan"))


def test_lines_of_keys_and_items() -> None:
    document, problems = parse_yaml("a: 1\nb:\n  c: 2\n  d:\n    - 3\n    - 4\n", "f.yaml")
    assert not problems
    assert document.values == {"a": 1, "b": {"c": 2, "d": [3, 4]}}
    lines = {dotted(key): origin.text for key, origin in document.origins.items()}
    assert lines == {
        "a": "f.yaml:1",
        "b": "f.yaml:2",
        "b.c": "f.yaml:3",
        "b.d": "f.yaml:4",
        "b.d[0]": "f.yaml:5",
        "b.d[1]": "f.yaml:6",
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null\n"])
def test_empty_texts(text: str) -> None:
    assert parse_yaml(text, "f.yaml") == (Document(), [])


@pytest.mark.parametrize(
    ("label", "text", "message"),
    [
        ("list", "- 1", "f.yaml:1: must be a mapping"),
        ("text", "hello", "f.yaml:1: must be a mapping"),
        ("unclosed", "a: 1\nb: [1,\n", "f.yaml:3: not valid YAML"),
        ("tab", "a:\n\tb: 1", "f.yaml:2: not valid YAML"),
        ("two documents", "a: 1\n---\nb: 2", "f.yaml:2: not valid YAML"),
        ("unknown alias", "a: *b", "f.yaml:1: not valid YAML: found undefined alias"),
        ("duplicate", "a:\n  b: 1\n  c: 2\n  b: 3", "f.yaml:4: a.b: given twice, first on line 2"),
        ("duplicate section", "a: {b: 1}\na: {c: 2}", "f.yaml:2: a: given twice, first on line 1"),
        ("list as key", "? [1]\n: 2", "f.yaml:1: a key must be plain text"),
        ("merge key", "a: &x {b: 1}\nc: {<<: *x}", "f.yaml:2: c: YAML merge keys"),
        (
            "python tag",
            "a: !!python/name:os.system",
            "the YAML tag tag:yaml.org,2002:python/name:os.system is not read",
        ),
        ("set", "a: !!set {b}", "the YAML tag tag:yaml.org,2002:set is not read"),
        ("recursive alias", "a: &x [*x]", "nested deeper"),
        ("deep brackets", "[" * 3000, "nested deeper"),
        ("deep mappings", "a: " + "{a: " * 30 + "1" + "}" * 30, "nested deeper"),
        ("control character", "a: \x00", "control characters"),
        ("NUL written out", 'a: "\\0"', "f.yaml:1: a: holds a character"),
        ("half a surrogate pair", 'a: "\\ud800"', "f.yaml:1: a: holds a character"),
        ("huge number", "a: " + "9" * 5000, "f.yaml:1: a: '9999"),
    ],
)
def test_bad_texts(label: str, text: str, message: str) -> None:
    problems = parse_yaml(text, "f.yaml")[1]
    assert len(problems) == 1, [str(problem) for problem in problems]
    assert message in str(problems[0])
    assert len(str(problems[0])) < 200


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    assert "more than 20000 values" in str(parse_yaml("\n".join(lines), "f.yaml")[1][0])


@pytest.mark.parametrize(
    ("text", "result", "names"),
    [
        ("plain", "plain", ()),
        ("${A}/x", "one/x", ("A",)),
        ("${A}${B}", "onetwo", ("A", "B")),
        ("${NOPE:-data}/x", "data/x", ("NOPE",)),
        ("${A:-data}", "one", ("A",)),
        ("${EMPTY:-data}", "data", ("EMPTY",)),
        ("${EMPTY}", "", ("EMPTY",)),
        ("${NOPE:-}", "", ("NOPE",)),
        ("$${A}", "${A}", ()),
        ("$A costs 3$", "$A costs 3$", ()),
    ],
)
def test_environment_variables(text: str, result: str, names: tuple[str, ...]) -> None:
    assert expand(text, {"A": "one", "B": "two", "EMPTY": ""}) == (result, names)


@pytest.mark.parametrize(
    ("text", "message"), [("${NOPE}", "NOPE is not set"), ("${}", "write"), ("${A", "write"), ("${1A}", "write")]
)
def test_wrong_environment_variables(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(text, {"A": "one"})


def test_documents_merge_section_by_section() -> None:
    below = parse_yaml("a: {b: 1, c: [1, 2]}\nd: 3\ne: {f: 4}", "base.yaml")[0].as_base()
    below.merge(parse_yaml("a:\n  c: [5]\ne: 6\n", "top.yaml")[0])
    assert below.values == {"a": {"b": 1, "c": [5]}, "d": 3, "e": 6}
    assert str(below.origins[("a", "b")]) == "base base.yaml:1"
    assert str(below.origins[("a", "c")]) == "top.yaml:2"
    assert ("a", "c", 1) not in below.origins
    assert ("e", "f") not in below.origins


def test_one_problem_is_one_line_and_several_are_a_list() -> None:
    one, two = Problem("f.yaml:1", "a.b", "is wrong"), Problem("f.yaml:2", "", "is bad")
    assert str(ConfigError([one])) == "f.yaml:1: a.b: is wrong"
    assert str(ConfigError([one, two, one])).splitlines() == [
        *("2 problems in the configuration:", "  f.yaml:1: a.b: is wrong", "  f.yaml:2: is bad")
    ]


def test_a_message_has_an_end() -> None:
    message = str(ConfigError([Problem(f"f.yaml:{line}", "a", "is wrong") for line in range(1000)]))
    assert message.startswith("1000 problems in the configuration:\n")
    assert message.count("\n") == 60


def test_origin_names_its_variables() -> None:
    assert str(Origin("f.yaml:3", inherited=True, variables=("A", "B"))) == "base f.yaml:3 ($A, $B)"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "f.yaml") == "a: 1"


@given(
    st.recursive(
        st.text(
            st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6
        )  # texts that a file can hold
        | st.text("0123456789.eE+-_xo:", max_size=6)
        | st.sampled_from(["${A}", "$${", "yes", "~", "1e4", "08", "a\nb"]),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text("ab1e4", min_size=1), below, max_size=3),
        max_leaves=6,
    ),
    st.booleans(),
)
def test_what_is_written_is_read_back(value: Any, one_line: bool) -> None:
    text = dump_yaml(value, one_line)
    assert parse_value(text) == value
    assert not one_line or text.removesuffix("...\n").strip("\n").count("\n") == 0
