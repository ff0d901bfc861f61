"""Every listed way to get it wrong gives one message and the right exit code, and docs/errors.md tells them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.errors.error_case import ErrorCase, outcome_of
from tests.errors.write_table import DOCUMENT, all_cases, document

CASES = [case for _, cases in all_cases() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_message_and_exit_code(case: ErrorCase, tmp_path: Path) -> None:
    outcome = outcome_of(case, tmp_path)
    assert outcome.exit_code == case.exit_code, outcome.message
    assert re.search(case.message, outcome.message), outcome.message
    assert "Traceback" not in outcome.message
    assert outcome.message == outcome.message.strip()


def test_labels_are_unique() -> None:
    labels = [case.label for case in CASES]
    assert sorted(set(labels)) == sorted(labels)


@pytest.mark.slow
def test_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: python -m tests.errors.write_table"
