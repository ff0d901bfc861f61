"""`eventide config show` and `eventide config schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from eventide.cli import app, run
from eventide.config import Config
from eventide.config_loading import load_config

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("opt:\n  epochs: 7\n", encoding="utf-8")
    path = tmp_path / "c.yaml"
    path.write_text("base: base.yaml\ndataset:\n  feat_folder: ${TEST_ROOT:-data}/x\n", encoding="utf-8")
    return path


def test_show_prints_every_value_with_its_origin(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["config", "show", str(config_file), "--set", "seed=3", "opt.momentum=0.5"]) == 0
    output = capsys.readouterr().out
    lines = {line.split(":")[0].strip(): line.split("  # ") for line in output.splitlines() if "  # " in line}
    origins = {key: parts[1].replace(f"{config_file.parent}/", "") for key, parts in lines.items()}
    assert origins["epochs"] == "base base.yaml:2"
    assert origins["feat_folder"] == "c.yaml:3 ($TEST_ROOT)"
    assert (origins["seed"], origins["momentum"]) == ("--set", "--set")
    assert origins["max_len"] == "derived"
    assert origins["warmup"] == "default"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_what_show_prints_is_a_configuration(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["config", "show", str(path)]) == 0
    output = capsys.readouterr().out
    assert set(yaml.safe_load(output)) == set(Config.model_fields)
    shown = tmp_path / "shown.yaml"
    shown.write_text(output, encoding="utf-8")
    assert load_config(shown) == load_config(path)


def test_show_on_a_terminal_is_a_table(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(app, ["config", "show", str(config_file)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["key", "value", "origin"]
    assert next(row for row in rows if row[0] == "opt.epochs")[1:3] == ["7", "base"]


def test_show_prints_notices_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("devices: ['cpu']\n", encoding="utf-8")
    assert run(app, ["config", "show", str(path)]) == 0
    assert capsys.readouterr().err == f"note: {path}:1: devices: read as `device: cpu`\n"


def test_show_of_a_wrong_file_prints_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: x\nopt: {epochs: 0}\n", encoding="utf-8")
    assert run(app, ["config", "show", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == "error: 2 problems in the configuration:"
    assert len(captured.err.splitlines()) == 3


def test_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["seed"]["default"] == 1234567891
    assert "description" in schema["$defs"]["BackboneConfig"]["properties"]["n_kv_head"]


def test_schema_as_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["config", "schema", "--markdown"]) == 0
    assert "## `model.backbone`" in capsys.readouterr().out
