"""`eventide check`: exit codes, tables, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import make_data, plain_database, point_record, record, write_config
from tests.errors.error_case import CommandLineError, run_cli


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_sound_data_set_exits_with_0_and_prints_tables(tmp_path: Path) -> None:
    make_data(tmp_path)
    output = run_cli(["check", write_config(tmp_path / "c.yaml", tmp_path), "--json", "report.json"], tmp_path)
    for part in ("Recordings", "without features", "Events per class", "clap", "pyramid level", "p95"):
        assert part in output
    assert "0 of 24 training events (0.00%) get no positive point" in output
    assert output.rstrip().endswith("no problems, 0 warning(s)")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == []
    assert report["splits"][0]["recordings"] == 7
    assert len(report["levels"]) == 4


def test_point_events(tmp_path: Path) -> None:
    database = {"a": point_record((3.0, "clap"), (3.25, "clap"), (9, "jump"))}
    make_data(tmp_path, database | {"v": point_record((1.0, "clap"), subset="validation")})
    config = write_config(tmp_path / "c.yaml", tmp_path)
    output = run_cli(["check", config, "--set", "model.meta_arch=SnapFormer"], tmp_path)
    for part in ("Point events per class", "smallest gap (s)", "0.25", "One grid step lasts 0.5 s."):
        assert part in output
    assert "pyramid level" not in output
    assert "warning: " in output
    assert "1 pair(s) of points of one class are nearest to the same or to neighbouring grid steps (0.5 s" in output
    with pytest.raises(CommandLineError, match="all 4 events are point events"):
        run_cli(["check", config], tmp_path)


def test_problems_exit_with_1_and_come_in_one_message(tmp_path: Path) -> None:
    make_data(tmp_path, plain_database() | {"rec1": record((5, 3, "clap"))})
    (tmp_path / "features" / "rec3.npy").unlink()
    with pytest.raises(CommandLineError) as caught:
        run_cli(["check", write_config(tmp_path / "c.yaml", tmp_path), "--json", "report.json"], tmp_path)
    assert caught.value.exit_code == 1
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("c.yaml: 2 problems")
    assert "recording 'rec1', annotations[0]: the segment ends" in lines[1]
    assert "recording 'rec3': no feature file" in lines[2]
    assert len(json.loads((tmp_path / "report.json").read_text())["problems"]) == 2


def test_overrides_and_headers_only(tmp_path: Path) -> None:
    make_data(tmp_path)
    np.save(tmp_path / "features" / "rec1.npy", np.full((50, 4), np.nan, np.float32))
    (tmp_path / "features" / "rec3.npy").unlink()
    config = write_config(tmp_path / "c.yaml", tmp_path)
    output = run_cli(["check", config, "--set", "dataset.missing=skip", "--headers-only"], tmp_path)
    assert "warning: 1 recording(s) without features are skipped: 'rec3'" in output
    with pytest.raises(CommandLineError, match="NaN or Inf"):
        run_cli(["check", config, "--set", "dataset.missing=skip"], tmp_path)


def test_strict_makes_warnings_fail(tmp_path: Path) -> None:
    make_data(tmp_path)
    config = write_config(tmp_path / "c.yaml", tmp_path)
    arguments = ["check", config, "--set", "dataset.num_classes=3"]
    assert "warning: " in run_cli(arguments, tmp_path)
    with pytest.raises(CommandLineError, match=r"1 warning\(s\), listed above \(--strict\)") as caught:
        run_cli([*arguments, "--strict"], tmp_path)
    assert caught.value.exit_code == 1


def test_labels_are_printed_as_they_are(tmp_path: Path) -> None:
    make_data(tmp_path, {"a": record((1, 9, "[bold]x[/]")), "v": record((1, 2, ":boom:"), subset="validation")})
    output = run_cli(["check", write_config(tmp_path / "c.yaml", tmp_path)], tmp_path)
    assert "[bold]x[/]" in output
    assert ":boom:" in output
