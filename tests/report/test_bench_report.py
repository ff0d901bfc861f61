"""Tables, plot and page block of a measurement, from its plain numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eventide.report.ablation_block import ablation_markdown, check_markers, markers, write_block
from eventide.report.bench_tables import ablation_table, bench_tables, heading, left_out
from eventide.report.scaling_plot import curves, draw_scaling
from eventide.report.units import bytes_text, count_text, percent_text, ratio_text, seconds_text
from eventide.types import UsageError

MACHINE = {"device": "cpu", "device_name": "a [bold] processor", "threads": 2, "torch": "2.13.0"}


def row(work: str = "inference", length: int = 1000, **changes: Any) -> dict[str, Any]:
    values = {
        "work": work,
        "length": length,
        "batch": 1,
        "runs": 3,
        "seconds": 0.002 * length,
        "error": None,
        "network_seconds": 0.001 * length,
        "recordings_per_second": 2.0,
        "vectors_per_second": 2000.0,
        "operations_per_recording": 3.5e9,
        "attention_operations_share": 0.2,
        "attention_time_share": 0.25,
        "matrix_rate_share": 0.5,
        "memory_bytes": 1024.0 * length,
        "memory_in_all_bytes": 2048.0 * length,
    }
    return {**values, **changes}


def content(rows: list[dict[str, Any]], fits: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "config": "configs/x.yaml",
        "model": "LocPointTransformer",
        "parameters": 1_234_567,
        "machine": MACHINE,
        "matrix_rate": 2e11,
        "precision": "32-true",
        "rows": rows,
        "fits": fits or [],
        "complete": True,
    }


FIT = {
    "work": "inference",
    "batch": 1,
    "quantity": "seconds",
    "slope": 0.002,
    "intercept": -0.1,
    "r_squared": 0.9987,
    "exponent": 1.02,
    "points": 3,
}
EMPTY = dict.fromkeys(row(), None) | {"work": "inference", "length": 5, "batch": 1, "runs": 0, "error": "out of memory"}


def printed(*tables: Any) -> str:
    console = Console(width=250)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        (seconds_text, None, "-"),
        (seconds_text, 0.0, "0 us"),
        (seconds_text, 5e-6, "5 us"),
        (seconds_text, 0.0123, "12.3 ms"),
        (seconds_text, 0.9996, "1 s"),
        (seconds_text, 25.123, "25.1 s"),
        (seconds_text, 1234.0, "1234 s"),
        (bytes_text, None, "-"),
        (bytes_text, 0, "0 MiB"),
        (bytes_text, 300 * 2**20, "300 MiB"),
        (bytes_text, 12 * 2**30, "12.0 GiB"),
        (count_text, None, "-"),
        (count_text, 0, "0"),
        (count_text, 999, "999"),
        (count_text, 999_900, "1 M"),
        (count_text, 1_234_567, "1.23 M"),
        (count_text, 3e14, "300 T"),
        (percent_text, None, "-"),
        (percent_text, 0.1234, "12.3%"),
        (ratio_text, None, "-"),
        (ratio_text, 0.8, "0.80x"),
    ],
)
def test_units(text: Any, value: float | None, expected: str) -> None:
    assert text(value) == expected


def test_an_intercept_that_rounds_to_nothing_has_no_sign() -> None:
    """Else the table says -0 MiB."""
    small = FIT | {"quantity": "memory_bytes", "slope": 1e6, "intercept": -1000.0}
    text = printed(*bench_tables(content([row()], [small])))
    assert "0 MiB" in text
    assert "-0 MiB" not in text


def test_tables() -> None:
    tables = bench_tables(content([row("training"), row(), row(length=9000), EMPTY], [FIT]))
    text = printed(*tables)
    assert len(tables) == 3
    for part in ("Training step", "9,000", "3.5 G", "25%", "50%", "0.9987", "1.02", "-100 ms", "R^2"):
        assert part in text
    assert left_out(content([row(), EMPTY])) == ["not measured: inference, T = 5, batch 1: out of memory"]


def test_no_rows_no_tables() -> None:
    assert bench_tables(content([])) == []
    assert left_out(content([])) == []


def test_heading() -> None:
    lines = heading(content([]))
    assert "1.23 M parameters" in lines[0]
    assert lines[1] == "cpu: a [bold] processor, 2 thread(s), torch 2.13.0, precision 32-true, matrix rate 200 GFLOP/s"
    assert "matrix rate" not in heading({**content([]), "matrix_rate": None})[1]


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_plot(tmp_path: Path, ending: str) -> None:
    rows = [row(length=length) for length in (100_000, 1000, 10_000)]
    path = tmp_path / "new" / f"p{ending}"
    draw_scaling(path, content([*rows, row("training"), EMPTY], [FIT]))
    assert path.stat().st_size > 1000
    if ending == ".svg":
        text = path.read_text(encoding="utf-8")
        assert "exponent 1.02, linear R² 0.9987" in text
        assert "10,000" in text
        assert "mathdefault" not in text


def test_plot_of_nothing(tmp_path: Path) -> None:
    draw_scaling(tmp_path / "p.svg", content([EMPTY]))
    assert "not measured" in (tmp_path / "p.svg").read_text(encoding="utf-8")


def test_curves_are_sorted_and_leave_out_what_is_not_there() -> None:
    rows = [row(length=9), EMPTY, row(length=2), row(length=4, batch=2), row("training", 3, memory_bytes=0)]
    assert curves(content(rows), "seconds") == {
        "inference, batch 1": [(2, 0.002 * 2), (9, 0.002 * 9)],
        "inference, batch 2": [(4, 0.002 * 4)],
        "training, batch 1": [(3, 0.002 * 3)],
    }
    assert "training, batch 1" not in curves(content(rows), "memory_bytes")


def variant(label: str, ratio: float | None, reason: str | None = None) -> dict[str, Any]:
    size = row() if ratio is not None else EMPTY
    return {
        "label": label,
        "reason": reason,
        "parameters": 1000,
        "guide_time_ratio": 0.8,
        "guide_memory_ratio": None,
        "training_time_ratio": ratio,
        "training_memory_ratio": ratio,
        "inference_time_ratio": ratio,
        "training": size,
        "inference": size,
    }


def ablation(device: str = "cpu", complete: bool = True) -> dict[str, Any]:
    rows = [variant("v1", 1.0), variant("v2", 0.7), variant("v2 + compile", None, "not available: no | g++\nhere")]
    machine = {**MACHINE, "device": device}
    return {"config": "c.yaml", "length": 10, "training_batch": 2, "machine": machine, "rows": rows} | {
        "complete": complete
    }


def test_ablation_table() -> None:
    text = printed(ablation_table(ablation()))
    assert "0.70x" in text
    assert "0.80x" in text
    assert left_out(ablation()) == ["v2 + compile: not available: no | g++\nhere"]


def test_ablation_markdown() -> None:
    lines = ablation_markdown(ablation()).splitlines()
    columns = lines[0].count("|")
    assert all(line.count("|") == columns for line in lines if line.startswith("|"))
    assert "| v2 | 0.70x | 0.80x |" in lines[3]
    assert "not available: no / g++ here" in lines[4]
    assert "interrupted" not in lines[-1]
    assert "interrupted" in ablation_markdown(ablation(complete=False)).splitlines()[-1]


PAGE = """# Page
<!-- ablation:begin cpu -->
old
<!-- ablation:end cpu -->
between
<!-- ablation:begin cuda -->
not measured
<!-- ablation:end cuda -->
end without a newline"""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_block_is_replaced_and_nothing_else(tmp_path: Path, device: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    for _ in range(2):  # also over a table of its own
        write_block(path, ablation(device))
    text = path.read_text(encoding="utf-8")
    begin, end = markers(device)
    before, rest = PAGE.split(begin)
    after = rest.split(end)[1]
    assert text.startswith(before + begin)
    assert text.endswith(end + after)
    assert text.count("| v2 | 0.70x") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["page.md"]


BEGIN, END = markers("cpu")


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("empty", ""),
        ("no markers", "# Benchmarks\n"),
        ("no end", f"{BEGIN}\n"),
        ("the wrong way round", f"{END}\n{BEGIN}\n"),
        ("twice", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"),
        ("of another device", "<!-- ablation:begin cuda -->\n<!-- ablation:end cuda -->\n"),
    ],
)
def test_a_page_without_markers_is_left_alone(tmp_path: Path, label: str, text: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="<!-- ablation:begin cpu -->"):
        write_block(path, ablation())
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(("label", "data"), [("nothing there", None), ("no text", b"\xff\xfe\x00")])
def test_a_page_that_cannot_be_read(tmp_path: Path, label: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "page.md").write_bytes(data)
    with pytest.raises(UsageError, match="cannot be read"):
        check_markers(tmp_path / "page.md", "cpu")
