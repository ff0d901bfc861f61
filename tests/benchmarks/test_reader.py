"""The benchmark of readers: every row runs in its process, and sees every recording."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import reader


@pytest.mark.slow
def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--recordings", "70", "--workers", "0", "--data", str(tmp_path / "d"), "--json", str(tmp_path / "r.json")]
    monkeypatch.setattr(sys, "argv", ["reader", *words, "--sources", "folder", "shards", "http", "training-shards"])
    reader.main()
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [row["source"] for row in rows] == ["folder", "shards", "http", "training-shards"]
    assert all(row["recordings"] == 70 and row["rate"] > 0 and len(row["peaks"]) == 4 for row in rows)
    assert "| folder of .npy files | 0 |" in capsys.readouterr().out
    assert len(list((tmp_path / "d" / "shards").glob("*.tar"))) > 2
    monkeypatch.setattr(sys, "argv", ["reader", *words[2:], "--recordings", "71"])
    with pytest.raises(SystemExit, match="holds other data; give another folder"):
        reader.main()


def test_table() -> None:
    rows = [
        reader.Row("folder", 2, 100.0, (1.0, 2.0, 3.0, 4.4), 10, 5.0),
        reader.Row("shards", 2, 250.0, (1.0,) * 4, 10, 7.0),
    ]
    assert reader.table(rows)[2:] == [
        "| folder of .npy files | 2 | 100 | 1.00 | - | 1 | 2 | 3 | 4 |",
        "| shards, local | 2 | 250 | 2.50 | - | 1 | 1 | 1 | 1 |",
    ]
    alone = reader.Row("shards", 0, 250.0, (1.0,) * 4, 10, 7.4)
    assert reader.table([alone])[2] == "| shards, local | 0 | 250 | - | 7 | 1 | 1 | 1 | 1 |"
