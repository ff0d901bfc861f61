"""report/: pictures and tables are made from plain numbers, whatever these are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from eventide.report.curves import draw_precision_recall, stairs
from eventide.report.figures import class_colours, shortened
from eventide.report.metric_tables import class_table, class_tables, metric_table
from eventide.report.time_bars import RecordingBars, clock, draw_time_bars, opacity, ticks
from eventide.types import EventKind, UsageError

HOSTILE = ["walk", "$\\frac{1$", "_hidden", "x" * 300, "two\nlines", "走る <b>&amp;"]


def bars(
    name: str, classes: int, number: int, duration: float = 60.0, kind: EventKind = "segments", has_std: bool = False
) -> RecordingBars:
    random = np.random.default_rng(0)
    starts = random.uniform(0, duration, (2, number))
    length = 2 if kind == "segments" else 0
    return RecordingBars(
        name,
        duration,
        np.stack([starts[0], starts[0] + length], axis=1),
        random.integers(0, classes, number),
        np.stack([starts[1], starts[1] + length], axis=1),
        random.integers(0, classes, number),
        random.uniform(0, 1, number),
        kind,
        random.choice([0.0, 0.5, 3.0], (number, 2)) if has_std else None,
    )


@pytest.mark.parametrize(
    ("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_formats(tmp_path: Path, ending: str, start: bytes) -> None:
    path = tmp_path / "new" / f"picture{ending}"
    draw_time_bars(path, [bars("one", 3, 5)], HOSTILE[:3], "caption")
    assert path.read_bytes().startswith(start)
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("label", "recordings"),
    [
        ("hostile names", [bars("$x^{$ <&>\n", 6, 20), bars("_", 6, 3)]),
        ("no events", [bars("empty", 1, 0), bars("one", 1, 1)]),
        ("no duration", [bars("empty", 1, 0, duration=0.0)]),
        ("hours", [bars("long", 2, 4, duration=20_000.0)]),
        ("an hour of short events", [bars("long", 6, 3000, duration=3600.0)]),
        ("points", [bars("$x^{$ <&>\n", 6, 20, kind="points"), bars("none", 6, 0, kind="points")]),
        ("an hour of points", [bars("long", 6, 3000, duration=3600.0, kind="points")]),
        ("uncertain boundaries", [bars("one", 3, 20, has_std=True), bars("none", 3, 0, has_std=True), bars("_", 2, 5)]),
    ],
)
def test_time_bars(tmp_path: Path, label: str, recordings: list[RecordingBars]) -> None:
    draw_time_bars(tmp_path / "p.svg", recordings, HOSTILE, "$caption")
    text = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert "ground truth" in text
    assert "NaN" not in text
    assert ("standard deviation" in text) == (label == "uncertain boundaries")
    assert ("lower tick" in text) == ("points" in label)


def uncertain(std: list[list[float]] | None, intervals: list[Any] | None, levels: Any = (0.1, 0.9)) -> RecordingBars:
    found = np.array([[10.0, 20.0], [30.0, 40.0]])
    classes = np.zeros(2, np.int64)
    deviations = None if std is None else np.array(std, dtype=float)
    quantiles = None if intervals is None else np.array(intervals, dtype=float)
    return RecordingBars(
        "r", 60.0, found, classes, found, classes, np.ones(2), "segments", deviations, quantiles, levels
    )


NONE = [[float("nan")] * 2] * 2  # quantiles of a detection that has none
LOPSIDED = [[9.0, 14.0], [19.5, 20.5]]
DEVIATIONS = [[1.0, 0.0], [2.0, 3.0]]
STD, QUANTILES = "one standard deviation", "10% to 90% quantile"


@pytest.mark.parametrize(
    ("label", "recording", "whiskers", "texts"),
    [
        ("nothing", uncertain(None, None), [NONE, NONE], []),
        ("nothing known", uncertain([[0, 0], [0, 0]], [NONE, NONE]), [NONE, NONE], []),
        (
            "deviations",
            uncertain(DEVIATIONS, None),
            [[[9, 11], [float("nan")] * 2], [[28, 32], [37, 43]]],
            [STD],
        ),
        ("quantiles", uncertain(None, [LOPSIDED, LOPSIDED]), [LOPSIDED, LOPSIDED], [QUANTILES]),
        ("quantiles go first", uncertain(DEVIATIONS, [LOPSIDED, LOPSIDED]), [LOPSIDED, LOPSIDED], [QUANTILES]),
        (
            "some have none",
            uncertain(DEVIATIONS, [LOPSIDED, NONE]),
            [LOPSIDED, [[28, 32], [37, 43]]],
            [QUANTILES, STD],
        ),
        (
            "other levels",
            uncertain(None, [LOPSIDED, LOPSIDED], None),
            [LOPSIDED, LOPSIDED],
            ["lowest to highest quantile"],
        ),
    ],
)
def test_whiskers(tmp_path: Path, label: str, recording: RecordingBars, whiskers: Any, texts: list[str]) -> None:
    np.testing.assert_array_equal(recording.whiskers()[0], whiskers)
    draw_time_bars(tmp_path / "p.svg", [recording], ["walk"], "caption")
    picture = (tmp_path / "p.svg").read_text(encoding="utf-8")
    for text in (STD, QUANTILES, "lowest to highest quantile"):
        assert (text in picture) == (text in texts), text


def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_time_bars(tmp_path / name, [bars("one", 3, 5)], HOSTILE[:3], "caption")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("number", [0, 1, 6, 7, 20, 21, 300])
def test_curves_of_any_number_of_classes(tmp_path: Path, number: int) -> None:
    recall, precision = np.array([0.0, 0.5, 0.5, 1.0]), np.array([0.9, 0.9, 0.5, 0.5])
    names = list(itertools.islice(itertools.cycle(HOSTILE), number))
    draw_precision_recall(
        tmp_path / "p.svg",
        names,
        [recall] * number,
        [precision] * number,
        np.linspace(1, 0, 11),
        [0.7] * number,
        "caption",
    )
    assert "recall" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    colours = class_colours(number)
    assert len(set(colours)) == len(colours) == number


@pytest.mark.parametrize("name", ["p.gif", "p", "p.png.txt"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"a picture ends in \.png, \.svg or \.pdf"):
        draw_time_bars(tmp_path / name, [bars("one", 1, 1)], ["walk"], "caption")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("label", "recall", "precision", "x", "y"),
    [
        ("nothing", [], [], [0, 0], [0, 0]),
        ("nothing right", [0, 0], [0, 0], [0, 0], [0, 0]),
        ("all found", [0.5, 1], [1, 0.5], [0, 0.5, 0.5, 1], [1, 1, 0.5, 0.5]),
        ("half found", [0.5, 0.5], [1, 0.5], [0, 0.5, 0.5], [1, 1, 0]),
    ],
)
def test_stairs(label: str, recall: list[float], precision: list[float], x: list[float], y: list[float]) -> None:
    found = stairs(np.array(recall), np.array(precision))
    assert [part.tolist() for part in found] == [x, y]


@pytest.mark.parametrize(
    ("seconds", "duration", "text"), [(5, 60, "5 s"), (0.5, 3, "0.5 s"), (65, 600, "1:05"), (3661, 7200, "1:01:01")]
)
def test_clock(seconds: float, duration: float, text: str) -> None:
    assert clock(seconds, duration) == text


@pytest.mark.parametrize("duration", [0.05, 1, 59, 600, 5000, 86_400, 10**6])
def test_ticks_are_few_and_inside(duration: float) -> None:
    places = ticks(duration)
    assert 2 <= len(places) <= 12
    assert places[0] == 0
    assert places[-1] <= duration * 1.0001


def test_small_helpers() -> None:
    assert shortened("a  b\nc") == "a b c"
    assert len(shortened("x" * 100)) == 32
    assert opacity(0) > 0
    assert opacity(7) == 1


def test_tables() -> None:
    metrics = {
        "tiou_thresholds": [0.3, 0.5],
        "mAP": [0.5, 0.25],
        "average_mAP": 0.375,
        "recall_at_1x": [1.0, 0.5],
        "classes": ["walk", "[red]run"],
        "per_class_AP": [[1.0, 0.0], [0.5, 0.0]],
        "num_ground_truth": [3, 4],
        "num_predictions": [5, 0],
    }
    console = Console(width=200, record=True)
    console.print(metric_table(metrics), class_table(metrics))
    text = console.export_text()
    for part in ("Recall@1x", "37.50", "75.00", "[red]run", "@0.30"):
        assert part in text


POINTS = {
    "mAP": [0.5, 0.25],
    "average_mAP": 0.375,
    "recall": [0.75, 1.0],
    "timing_error": [None, 0.1234],
    "classes": ["[red]snap"],
    "per_class_AP": [[0.5], [0.25]],
    "per_class_recall": [[0.75], [1.0]],
    "per_class_timing_error": [[None], [0.1234]],
    "num_ground_truth": [3],
    "num_predictions": [5],
}


@pytest.mark.parametrize(
    ("label", "thresholds", "parts"),
    [
        ("seconds", {"tolerances": [0.25, 1.0], "tolerance_unit": "seconds"}, ["0.25 s", "@1 s", "recall @0.25 s"]),
        ("frames", {"tolerances": [0.0, 1.0], "tolerance_unit": "frames"}, ["0 frames", "1 frame ", "error @1 frame"]),
    ],
)
def test_tables_of_points(label: str, thresholds: dict[str, object], parts: list[str]) -> None:
    console = Console(width=200, record=True)
    console.print(metric_table({**POINTS, **thresholds}), *class_tables({**POINTS, **thresholds}))
    text = console.export_text()
    for part in (*parts, "Point detection (%)", "0.123 s", " - ", "87.50", "37.50", "[red]snap"):
        assert part in text


def test_tables_of_soccernet() -> None:
    found = {key: value for key, value in POINTS.items() if "recall" not in key and "error" not in key}
    metrics = {**found, "windows": [1.0, 2.0], "average_AP": [0.31]}
    console = Console(width=200, record=True)
    console.print(metric_table(metrics), *class_tables(metrics))
    text = console.export_text()
    for part in ("SoccerNet", "window", "@2 s", "31.00", "37.50"):
        assert part in text
    assert "timing error" not in text
