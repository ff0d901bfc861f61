"""The CUDA benchmark judges what it measured; on a CUDA device it runs as a whole."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import cuda
from benchmarks.common import Comparison
from benchmarks.cuda import Verdict, ablation_verdicts, published_verdicts


@pytest.mark.parametrize(
    ("measured", "limit", "holds", "line"),
    [
        (0.5, 0.8, True, "pass  what: 0.500, at most 0.8"),
        (0.8, 0.8, True, "pass  what: 0.800, at most 0.8"),
        (0.81, 0.8, False, "FAIL  what: 0.810, at most 0.8"),
        (None, 0.8, None, "not measured  what: -, at most 0.8"),
    ],
)
def test_verdicts(measured: float | None, limit: float, holds: bool | None, line: str) -> None:
    verdict = Verdict("what", measured, limit)
    assert verdict.holds is holds
    assert verdict.line().strip() == line


def row(label: str, time: float | None, memory: float | None) -> dict[str, Any]:
    return {"label": label, "training_time_ratio": time, "training_memory_ratio": memory}


def test_limits_of_the_ablation() -> None:
    rows = [row("v1", 1.0, 1.0), row("v2, all", 0.7, 0.8), row("v2, all + AMP", None, 0.5)]
    assert [verdict.holds for verdict in ablation_verdicts({"rows": rows})] == [True, False, None, True]


def comparison(label: str, ratio: float | None, target: float | None) -> Comparison:
    return Comparison(label, 1.0, None, ratio, 1, 1.0, None, 1.0, None, target)


def test_limits_against_the_published_code() -> None:
    found = [comparison("a", 0.1, None), comparison("b", 0.1, 0.2), comparison("c", None, 0.25)]
    assert [(verdict.what, verdict.holds) for verdict in published_verdicts(found)] == [("b", True), ("c", None)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA device")
def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda"])
    with pytest.raises(SystemExit, match="no CUDA device"):
        cuda.main()


def measured(ratio: float | None) -> dict[str, Any]:
    """What an ablation of three rows gives, every ratio the same."""
    size = {"runs": 1, "seconds": 0.1, "memory_in_all_bytes": 2**20}
    rows = [
        {
            "label": label,
            "reason": None,
            "parameters": 10,
            "training": size,
            "inference": size,
            **dict.fromkeys(("training_time_ratio", "training_memory_ratio", "inference_time_ratio"), ratio),
            **dict.fromkeys(("guide_time_ratio", "guide_memory_ratio"), 0.5),
        }
        for label in ("v1", *cuda.LIMITS)
    ]
    machine = {"device": "cpu", "device_name": "a processor", "threads": 1, "torch": "2"}
    content = {"config": "c.yaml", "length": 10, "training_batch": 2, "machine": machine, "rows": rows}
    return {**content, "complete": True}


@pytest.mark.parametrize(("label", "ratio", "code"), [("kept", 0.3, None), ("missed", 0.6, 1), ("unknown", None, None)])
def test_what_is_printed_and_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    label: str,
    ratio: float | None,
    code: int | None,
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- ablation:begin cpu -->\n<!-- ablation:end cpu -->\n", encoding="utf-8")
    words = ["cuda", "--device", "cpu", "--json", str(tmp_path / "c.json"), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(cuda, "against_published", lambda *_: [comparison("b", 0.1, 0.2)])
    monkeypatch.setattr(cuda, "ablation", lambda *_: measured(ratio))
    if code is None:
        cuda.main()
    else:
        with pytest.raises(SystemExit) as end:
            cuda.main()
        assert end.value.code == code
    verdicts = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["verdicts"]
    assert len(verdicts) == 5
    assert "pass  b: 0.100, at most 0.2" in capsys.readouterr().out
    assert "| v2, all + AMP |" in page.read_text(encoding="utf-8")


@pytest.mark.cuda
@pytest.mark.slow
def test_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda", "--runs", "1", "--length", "256", "--json", str(tmp_path / "c.json")])
    with contextlib.suppress(SystemExit):  # short sequences may well miss the limits
        cuda.main()
    content = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert len(content["verdicts"]) == 6
    assert content["ablation"]["complete"]
