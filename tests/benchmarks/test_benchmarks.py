"""The benchmarks run by themselves, without the published code, and say what they measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import convolutions, nms, segment_map
from benchmarks.common import HEADER, compare, load_published, seconds


def test_compare_runs_both_in_turn() -> None:
    calls: list[str] = []
    found = compare("x", lambda: calls.append("ours"), lambda: calls.append("theirs"), runs=3, target=0.5, warm_up=1)
    assert calls == ["ours", "theirs"] * 5
    assert found.ratio == pytest.approx(found.ours_median / (found.theirs_median or 1))
    assert len(found.row()) == len(HEADER)


def test_compare_without_theirs() -> None:
    found = compare("x", lambda: None, None, runs=2)
    assert found.ratio is None
    assert found.theirs_cold is None
    assert found.row()[2:4] == ["-", "-"]


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (5e-6, "5 us"), (0.0123, "12.30 ms"), (23.456, "23.46 s")])
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout of actionformer_release"):
        load_published(tmp_path)


def test_nms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nms", "--runs", "1", "--json", str(tmp_path / "n.json")])
    nms.main()
    content = json.loads((tmp_path / "n.json").read_text(encoding="utf-8"))
    assert all(comparison["ours_median"] > 0 for comparison in content["comparisons"])
    assert content["machine"]["cores"] >= 1


def test_segment_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["segment_map", "--runs", "1", "--predictions", "300", "--events", "50"])
    segment_map.main()
    assert "300 predictions, 50 events, 5 thresholds" in capsys.readouterr().out


def test_convolutions(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["convolutions", "--runs", "1", "--length", "300"])
    convolutions.main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("minimal filtering", "rows of neighbours", "1376 to 512, bfloat16"))
