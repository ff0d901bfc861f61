"""Asking the C library to keep freed memory."""

from __future__ import annotations

from unittest import mock

import pytest

from eventide.engine.memory import keep_freed_memory


@pytest.mark.parametrize(
    ("label", "platform", "library", "expected"),
    [
        ("glibc agrees", "linux", mock.Mock(mallopt=mock.Mock(return_value=1)), True),
        ("it refuses", "linux", mock.Mock(mallopt=mock.Mock(return_value=0)), False),
        ("a C library without it", "linux", mock.Mock(spec=[]), False),
        ("another system", "darwin", mock.Mock(mallopt=mock.Mock(return_value=1)), False),
    ],
)
def test_answers(label: str, platform: str, library: mock.Mock, expected: bool) -> None:
    with mock.patch("sys.platform", platform), mock.patch("ctypes.CDLL", return_value=library):
        assert keep_freed_memory() is expected
