"""`eventide bench` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.cli import app, run
from eventide.engine.measure import ablation as ablation_module
from eventide.engine.measure import bench as bench_module
from eventide.engine.measure.results import Memory
from eventide.report.ablation_block import markers
from eventide.types import UsageError
from tests.conftest import RunCli
from tests.engine.making import tiny_config, write_config

BEGIN, END = markers("cpu")
PAGE = f"# Page\n\n{BEGIN}\nNot measured yet.\n{END}\n\nrest\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with tiny.yaml and no data at all; memory is measured without processes."""
    write_config(tmp_path, tiny_config(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        bench_module, "measure_memory", lambda job, device: Memory(job.length * 2**20, job.length * 2**21)
    )
    return tmp_path


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise UsageError("no compiler here")

    monkeypatch.setattr(ablation_module, "refuse_without_compiler", refuse)


def bench(*words: object) -> int:
    return run(app, ["bench", "tiny.yaml", *map(str, words)])


def test_everything_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", "new/b.json", "--plot", "new/b.svg"]
    assert bench("--lengths", 8, 16, 32, "--batches", 1, 2, "--runs", 2, "--amp", *files) == 0
    done = capsys.readouterr()
    assert "LocPointTransformer with backbone convTransformer" in done.out
    for part in ("Training step", "Inference", "matrix rate", "inference memory", "1.0000", "Written to new/b.json"):
        assert part in done.out
    for part in ("counting operations", "peak memory", "warm-up", "round 1 of 2", "round 2 of 2", "done"):
        assert part in done.err
    content = json.loads((folder / "new" / "b.json").read_text(encoding="utf-8"))
    assert content["complete"]
    assert len(content["rows"]) == 7
    assert "linear R² 1.0000" in (folder / "new" / "b.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("label", "words", "sizes"),
    [
        ("defaults", [], [("training", 32, 2), *(("inference", length, 1) for length in (8, 16, 32, 64, 128))]),
        (
            "training only",
            ["--only", "training", "--training-lengths", 8, 24],
            [("training", 8, 2), ("training", 24, 2)],
        ),
        ("inference only", ["--only", "inference", "--lengths", 1], [("inference", 1, 1)]),
        (
            "a key set",
            ["--only", "training", "--set", "loader.batch_size=3"],
            [("training", 32, 3)],
        ),
    ],
)
def test_sizes(folder: Path, label: str, words: list[Any], sizes: list[tuple[str, int, int]]) -> None:
    assert bench("--runs", 1, "--json", "b.json", *words) == 0
    content = json.loads(Path("b.json").read_text(encoding="utf-8"))
    assert [(row["work"], row["length"], row["batch"]) for row in content["rows"]] == sizes


def interrupt_after(monkeypatch: pytest.MonkeyPatch, module: Any, calls: int) -> None:
    """Ctrl-C in the midst of timing."""
    left, original = [calls], bench_module.run_row

    def run_row(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "run_row", run_row)


def test_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_after(monkeypatch, bench_module, 3)  # one warm-up round of two rows, and one row
    words = ["--only", "inference", "--lengths", 8, 16, "--json", "b.json", "--plot", "b.png"]
    assert bench(*words) == 130
    done = capsys.readouterr()
    assert "interrupted: this is what was measured so far" in done.err
    assert "Inference" in done.out
    content = json.loads(Path("b.json").read_text(encoding="utf-8"))
    assert content["complete"] is False
    assert [row["runs"] for row in content["rows"]] == [1, 0]
    assert Path("b.png").exists()


@pytest.mark.slow
def test_ablation(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without_compiler(monkeypatch)
    Path("page.md").write_text(PAGE, encoding="utf-8")
    assert bench("--ablation", "--lengths", 16, "--runs", 1, "--json", "a.json", "--write", "page.md") == 0
    done = capsys.readouterr().out
    assert "v2, all + AMP + GQA + compile: not available: no compiler here" in done
    page = Path("page.md").read_text(encoding="utf-8")
    assert page.startswith(f"# Page\n\n{BEGIN}\n")
    assert page.endswith(f"{END}\n\nrest\n")
    assert "| v1 | 1.00x | 1.00x | 1.00x | 1.00x | 1.00x |" in page
    assert "| v2, all + AMP + GQA + compile | not available: no compiler here |" in page
    assert json.loads(Path("a.json").read_text(encoding="utf-8"))["format"] == "eventide-ablation-1"


@pytest.mark.slow
def test_ablation_interrupted_leaves_the_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_compiler(monkeypatch)
    interrupt_after(monkeypatch, ablation_module, 20)
    Path("page.md").write_text(PAGE, encoding="utf-8")
    assert bench("--ablation", "--runs", 3, "--json", "a.json", "--write", "page.md") == 130
    assert "page.md was left as it is" in capsys.readouterr().out
    assert Path("page.md").read_text(encoding="utf-8") == PAGE
    assert json.loads(Path("a.json").read_text(encoding="utf-8"))["complete"] is False


@pytest.mark.parametrize(
    ("label", "words", "message"),
    [
        ("no runs", ["--runs", 0], "--runs 0: give 1 or more"),
        ("no length", ["--lengths", 0], "--lengths 0: give 1 or more"),
        ("negative batch", ["--batches", 2, -1], "--batches -1: give 1 or more"),
        ("no threads", ["--threads", 0], "--threads 0: give 1 or more"),
        ("no training length", ["--training-lengths", 0], "--training-lengths 0: give 1 or more"),
        ("twice", ["--lengths", 5, 5], "--lengths: the same number twice"),
        ("word", ["--lengths", "long"], "--lengths"),
        ("work", ["--only", "sleeping"], "--only"),
        ("device", ["--device", "gpu"], "device 'gpu'"),
        ("picture", ["--plot", "p.gif"], "a picture ends in"),
        ("a line of one point", ["--plot", "p.png", "--only", "inference", "--lengths", 5], "at least two lengths"),
        ("a folder", ["--json", "."], "is a folder"),
        ("key", ["--set", "model.backbone.n_hed=2"], "n_head"),
        ("page without ablation", ["--write", "p.md"], "--write goes with --ablation"),
        ("no page", ["--ablation", "--write", "p.md"], "p.md: cannot be read"),
        ("several lengths", ["--ablation", "--lengths", 5, 6], "give one after --lengths"),
        ("precision", ["--ablation", "--amp"], "leave out"),
        ("nothing to switch", ["--ablation", "--set", "model.backbone_type=conv"], "compares transformers"),
    ],
)
def test_wrong_use(
    folder: Path, capsys: pytest.CaptureFixture[str], label: str, words: list[Any], message: str
) -> None:
    assert bench(*words) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ")
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
def test_in_a_process_of_its_own(run_cli: RunCli, tmp_path: Path) -> None:
    write_config(tmp_path, tiny_config(tmp_path))
    words = ["bench", "tiny.yaml", "--lengths", "16", "64", "--runs", "1", "--threads", "1", "--json", "b.json"]
    done = run_cli(words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    for row in content["rows"]:
        assert row["error"] is None
        assert 0 <= row["memory_bytes"] <= row["memory_in_all_bytes"]
    assert content["rows"][0]["memory_in_all_bytes"] > 0
