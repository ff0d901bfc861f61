"""What processes do together, in one of them."""

from __future__ import annotations

import pytest

from eventide.engine.world import World
from eventide.types import EventideError


def failing(error: Exception) -> None:
    raise error


def test_a_disk_that_refuses_is_one_message() -> None:
    error = PermissionError(13, "Permission denied", "runs/lock")
    with pytest.raises(EventideError, match="Permission denied: runs/lock"):
        World().by_first(lambda: failing(error))


def test_a_reader_that_leaves_is_no_failure() -> None:
    """`train.py ... | head` ends with 0 and without a word."""
    with pytest.raises(BrokenPipeError):
        World().by_first(lambda: failing(BrokenPipeError(32, "Broken pipe")))
