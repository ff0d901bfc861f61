"""Log files that cannot be written keep what they were given, and say so once."""

from __future__ import annotations

import errno
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from eventide.engine import logs
from eventide.engine.logs import LogFile, MetricsFile, TensorBoard
from eventide.engine.progress import Reporter
from tests.engine.making import fill


def test_a_log_file_keeps_what_it_cannot_write(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "run"
    folder.mkdir()
    with closing(LogFile(folder / "log", said.append)) as file:
        file.append("one\n")
        shutil.rmtree(folder)
        for number in range(3):
            file.append(f"{number}\n")
        assert len(said) == 1
        assert "log: cannot be written: " in said[0]
        assert not folder.exists()
        folder.mkdir()
        file.append("again\n")
        assert said[1:] == [f"{folder / 'log'} is written again"]
        assert (folder / "log").read_text() == "0\n1\n2\nagain\n"


def test_what_a_log_file_keeps_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_KEPT", 10)
    file = LogFile(tmp_path / "gone" / "log", lambda text: None)
    for text in ("aaaa\n", "bbbb\n", "c\n"):
        file.append(text)
    (tmp_path / "gone").mkdir()
    file.append("")
    assert (tmp_path / "gone" / "log").read_text() == "aaaa\nbbbb\n"
    file.append("d\n")
    assert (tmp_path / "gone" / "log").read_text() == "aaaa\nbbbb\nd\n"


def test_log_files_on_a_full_disk(small_disk: Path) -> None:
    said: list[str] = []
    reporter = Reporter(small_disk / "train.log", interactive=False)
    metrics = MetricsFile(small_disk / "metrics.jsonl", lambda entry: True, said.append)
    curves = TensorBoard(small_disk / "tensorboard", 0, said.append)
    with closing(reporter), closing(metrics), closing(curves):
        curves.write({"loss": 0.0}, 0)
        fill(small_disk)
        for step in range(1, 60):
            reporter.note("x" * 200)
            metrics.write({"step": step, "text": "x" * 200})
            curves.write({f"loss{number}": 0.5 for number in range(9)}, step)
        assert sorted(Path(text.split(": ")[1]).name[:6] for text in said) == ["events", "metric"]
        assert all("No space left on device; training goes on" in text for text in said)
        (small_disk / "filler").unlink()
        metrics.write({"step": 60})
        curves.write({"loss": 0.25}, 60)
        reporter.note("end")
    steps = [json.loads(line)["step"] for line in (small_disk / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 61))  # nothing is lost, nothing is cut
    assert (small_disk / "train.log").read_text() == 59 * ("x" * 200 + "\n") + "end\n"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    read = EventAccumulator(str(small_disk / "tensorboard"))
    read.Reload()
    assert [point.step for point in read.Scalars("loss0")] == list(range(1, 60))
    assert [point.step for point in read.Scalars("loss")] == [0, 60]


def test_a_screen_on_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full:
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            """Nothing."""

    with closing(Reporter(tmp_path / "train.log", interactive=False)) as reporter:
        monkeypatch.setattr("sys.stdout", Full())
        reporter.line("a line")
    assert (tmp_path / "train.log").read_text() == "a line\n"
