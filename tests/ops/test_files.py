"""ops/files.py: a file is there as a whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from eventide.ops.files import replacing, write_text
from eventide.types import UsageError


def test_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one\nzwölf")
    write_text(path, "two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("where", [".", "file/b.txt", "nul\0.txt"])
def test_places_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError):
        write_text(tmp_path / where, "text")
