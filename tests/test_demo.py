"""The way of a new user from end to end, small: generated data, check, train, predict, eval, plot."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, RunCli

CONFIG = REPOSITORY / "configs" / "demo.yaml"
RUN = Path("demo/demo_run")


def ok(done: object) -> str:
    """Standard output of a command that must have succeeded without a word about an error."""
    assert done.returncode == 0, done.stdout + done.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in done.stderr  # type: ignore[attr-defined]
    return done.stdout  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_demo_small(tmp_path: Path, run_cli: RunCli, run_train: RunCli) -> None:
    ok(run_cli(["make-demo-data", "demo/data", "--recordings", "12"], tmp_path))
    checked = ok(run_cli(["check", CONFIG], tmp_path))
    assert "approach" in checked

    settings = ["--set", "opt.epochs=2", "--set", "opt.warmup_epochs=1", "--set", "model.backbone.n_embd=32"]
    ok(run_train([CONFIG, "--output", "run", *settings], tmp_path))
    for name in ("config.yaml", "best.safetensors", "metrics.jsonl", "train.log"):
        assert (tmp_path / RUN / name).stat().st_size > 0, name
    for line in (tmp_path / RUN / "metrics.jsonl").read_text().splitlines():
        json.loads(line)

    again = run_train([CONFIG, "--output", "run", *settings], tmp_path)
    assert again.returncode != 0, "a folder that holds a run is refused without --resume"
    assert "--resume" in again.stderr

    best, used = RUN / "best.safetensors", RUN / "config.yaml"
    ok(
        run_cli(
            ["predict", "--checkpoint", best, "--config", used, "--split", "validation", "--output", "results.json"],
            tmp_path,
        )
    )
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert len(results) == 4

    annotations = ["--annotations", "demo/data/annotations.json", "--split", "validation"]
    ok(
        run_cli(
            ["eval", "--predictions", "results.json", *annotations, "--protocol", "thumos", "--json", "m.json"],
            tmp_path,
        )
    )
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert 0 <= metrics["average_mAP"] <= 1
    ok(run_cli(["plot", "--predictions", "results.json", *annotations, "--output", "plot.png"], tmp_path))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_makefile_runs_what_the_readme_promises() -> None:
    readme, makefile = (REPOSITORY / "README.md").read_text(), (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    promised = set(re.findall(r"\bmake ([a-z-]+)", readme))
    assert {"demo", "test", "lint", "bench"} <= promised
    assert promised <= targets


def links(path: Path) -> list[str]:
    """Targets of the relative links and pictures of a Markdown file, without anchors."""
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    return [link.split("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


DOCUMENTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(REPOSITORY)) for path in DOCUMENTS])
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if not (path.parent / link).exists()] == []
