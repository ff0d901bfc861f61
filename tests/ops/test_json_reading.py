"""ops/json_reading.py: strict JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.json_reading import is_number, is_text, parse_json, read_json, shown
from eventide.types import EventideError, UsageError


@pytest.mark.parametrize(
    ("label", "data", "message"),
    [
        ("empty", b"", "F is empty"),
        ("only white space", b" \n", "F is empty"),
        ("not UTF-8", b'"\xff"', r"F is not UTF-8 text \(byte 1\)"),
        ("UTF-16", '{"a": 1}'.encode("utf-16"), "F is not UTF-8"),
        ("cut off", b'{\n"a": [1,', "F is not valid JSON: .* at line 2, column"),
        ("key twice", b'{"a": {"b": 1, "b": 2}}', "F has the key 'b' 2 times in one object"),
        ("NaN", b"[NaN]", "F holds NaN"),
        ("Infinity", b"[-Infinity]", "F holds -Infinity"),
        ("deep", b"[" * 100_000, "F is nested too deeply"),
        ("too many digits", b"1" * 10_000, "F holds a number with too many digits"),
    ],
)
def test_what_is_refused(label: str, data: bytes, message: str) -> None:
    with pytest.raises(EventideError, match=message):
        parse_json(data, "F")


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null]}', "F") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("name", ["none.json", ".", "a\0b"])
def test_paths_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="results file"):
        read_json(f"{tmp_path}/{name}", "results file")


@given(st.binary(max_size=40))
def test_any_bytes_give_a_value_or_a_message(data: bytes) -> None:
    try:
        value = parse_json(data, "F")
    except EventideError:
        return
    assert json.loads(data.decode("utf-8-sig")) == value


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, True),
        (1.5, True),
        (-0.0, True),
        (True, False),
        (None, False),
        ("1", False),
        (float("inf"), False),
        (float("nan"), False),
        (10**400, False),
        (10**300, True),
    ],
)
def test_numbers(value: object, number: bool) -> None:
    assert is_number(value) is number


def test_texts() -> None:
    assert is_text("\u00fc")
    assert not is_text("\ud800")
    assert not is_text(1)
    assert shown("\ud800" * 40).isascii()


def test_with_a_list_of_problems_the_rest_is_read() -> None:
    problems: list[str] = []
    value = parse_json(b'{"a": {"b": 1, "b": 2}, "c": [Infinity], "a": 3, "a": {"d": 4, "d": 5}}', "F", problems)
    assert value == {"a": {"d": 5}, "c": [float("inf")]}
    assert [problem[: problem.index(" in one")] for problem in problems] == [
        "has the key 'b' 2 times",
        "has the key 'd' 2 times",
        "has the key 'a' 3 times",
    ]
