"""`eventide recommend`: flags, files, questions on a terminal; what it writes is accepted by every other command."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventide.config_loading import load_config, load_config_with_origins
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.data.loader import collate
from eventide.engine.machine import Machine
from eventide.engine.optim import build_optimizer
from eventide.models import build
from tests.data.making import plain_database, record, write_features, write_json
from tests.errors.error_case import CommandLineError, run_cli

FLAGS = ["--events", "segments", "--labels", "clean", "--length", "short", "--gpus", "0"]
PLAIN = ["--annotations", "annotations.json", "--features", "features", "--gpus", "0"]
TOY = """\
dataset: {input_dim: 6, num_classes: 3, feat_stride: 4, num_frames: 8, default_fps: 20, max_seq_len: 512}
model: {backbone: {n_embd: 16}}
"""


def plain_files(folder: Path) -> None:
    """Two vectors per second of 60 s recordings with events of 5 s, and those of 2 and 11.5 s in validation."""
    database = plain_database()
    write_json(folder / "annotations.json", database)
    write_features(folder / "features", dict.fromkeys(database, 119))


def written(folder: Path, *arguments: str) -> str:
    return run_cli(["recommend", *arguments], folder)


def test_flags_alone_are_enough(tmp_path: Path) -> None:
    text = written(tmp_path, *FLAGS)
    (tmp_path / "my.yaml").write_text(text)
    loaded = load_config_with_origins(tmp_path / "my.yaml")
    assert loaded.notices == []
    assert loaded.config.model.meta_arch == "LocPointTransformer"
    assert "# eventide recommend --events segments --labels clean --length short --gpus 0\n" in text
    assert "not given: put your annotation file here" in text


GRIDS = [
    (["--feat-stride", "4"], (4.0, 4.0, None)),
    (["--feat-stride", "4", "--num-frames", "16"], (4.0, 16.0, None)),
    (["--feat-stride", "4", "--num-frames", "16", "--fps", "25"], (4.0, 16.0, 25.0)),
    (["--num-frames", "32"], (16.0, 32.0, None)),
    (["--fps", "25"], (16.0, 16.0, 25.0)),
]


@pytest.mark.parametrize(("arguments", "expected"), GRIDS, ids=[" ".join(words) for words, _ in GRIDS])
@pytest.mark.parametrize("annotated", [False, True])
def test_the_grid_without_features_is_as_given(
    tmp_path: Path, annotated: bool, arguments: list[str], expected: tuple[float, float, float | None]
) -> None:
    plain_files(tmp_path)
    files = ["--annotations", "annotations.json"] if annotated else []
    text = written(tmp_path, *FLAGS, *files, *arguments)
    (tmp_path / "my.yaml").write_text(text)
    data = load_config(tmp_path / "my.yaml").dataset
    assert (data.feat_stride, data.num_frames, data.default_fps) == expected
    for flag in arguments[::2]:
        key = "default_fps" if flag == "--fps" else flag.lstrip("-").replace("-", "_")
        assert re.search(rf"^  {key}: .*# {flag}$", text, re.MULTILINE)


def test_files_are_read(tmp_path: Path) -> None:
    plain_files(tmp_path)
    text = written(tmp_path, *PLAIN, "--output", "my.yaml")
    assert text == "Written to my.yaml. Now: eventide check my.yaml\n"
    config = load_config(tmp_path / "my.yaml")
    assert (config.dataset.feat_stride, config.dataset.num_classes, config.dataset.input_dim) == (5.0, 2, 4)
    assert config.val_split == ["validation"]
    assert config.dataset.default_fps is None
    written_text = (tmp_path / "my.yaml").read_text()
    assert "assumed; --labels noisy or --second-annotator FILE would say otherwise" in written_text
    assert "python train.py my.yaml" in written_text
    assert "no problems, 0 warning(s)" in run_cli(["check", "my.yaml"], tmp_path)


def test_every_value_has_its_reason_on_its_line(tmp_path: Path) -> None:
    plain_files(tmp_path)
    lines = written(tmp_path, *PLAIN).splitlines()
    values = [
        line for line in lines if line and not line.startswith("#") and not line.split("#")[0].rstrip().endswith(":")
    ]
    assert len(values) > 20
    assert [line for line in values if "  # " not in line] == []
    assert all(line.isprintable() for line in lines)


def test_the_output_is_not_overwritten_without_being_told(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("mine")
    with pytest.raises(CommandLineError, match="exists already"):
        written(tmp_path, *FLAGS, "--output", "my.yaml")
    assert (tmp_path / "my.yaml").read_text() == "mine"
    written(tmp_path, *FLAGS, "--output", "my.yaml", "--force")
    assert load_config(tmp_path / "my.yaml").model.meta_arch == "LocPointTransformer"


@pytest.mark.parametrize(
    ("label", "noise", "architecture"), [("alike", 0.02, "LocPointTransformer"), ("noisy", 1.0, "TBTFormer")]
)
def test_a_second_annotator(tmp_path: Path, label: str, noise: float, architecture: str) -> None:
    plain_files(tmp_path)
    database, rng = plain_database(), np.random.default_rng(0)
    for item in database.values():
        for event in item["annotations"]:
            event["segment"] = (np.array(event["segment"]) + rng.normal(0, noise * 2**0.5, 2)).round(3).tolist()
    write_json(tmp_path / "second.json", database)
    text = written(tmp_path, *PLAIN, "--second-annotator", "second.json")
    (tmp_path / "my.yaml").write_text(text)
    assert load_config(tmp_path / "my.yaml").model.meta_arch == architecture
    assert "# Two annotators agree on 27 events of 9 recordings" in text


@pytest.mark.parametrize(
    ("label", "annotations", "arguments", "architecture", "part"),
    [
        ("times", [{"time": 3.0, "label": "a"}], [], "SnapFormer", "2 of 2 training events are annotated as `time`"),
        ("moments", [{"segment": [3.0, 3.2], "label": "a"}], [], "SnapFormer", "shorter than one grid step"),
        (
            "moments, but told otherwise",
            [{"segment": [3.0, 3.2], "label": "a"}],
            ["--events", "segments"],
            "LocPointTransformer",
            "2 of 2 are no longer than a grid step",
        ),
        (
            "a stray time",
            [
                {"segment": [3.0, 9.0], "label": "a"},
                {"segment": [13.0, 19.0], "label": "a"},
                {"time": 3.0, "label": "a"},
            ],
            [],
            "LocPointTransformer",
            "2 of 6 training events are points (`time`), which are left out",
        ),
    ],
)
def test_what_the_events_are(
    tmp_path: Path, label: str, annotations: list[Any], arguments: list[str], architecture: str, part: str
) -> None:
    items = {name: record() | {"annotations": annotations} for name in ("r", "s")}
    items["v"] = record(subset="test") | {"annotations": annotations}
    write_json(tmp_path / "annotations.json", items)
    write_features(tmp_path / "features", dict.fromkeys(items, 119))
    text = written(tmp_path, *PLAIN, *arguments)
    assert part in " ".join(text.replace("\n#", "").split())
    (tmp_path / "my.yaml").write_text(text)
    assert load_config(tmp_path / "my.yaml").model.meta_arch == architecture


def test_names_with_special_characters(tmp_path: Path) -> None:
    folder = tmp_path / "a # b: 'c' ${d}"
    folder.mkdir()
    plain_files(folder)
    arguments = ["--annotations", str(folder / "annotations.json"), "--features", str(folder / "features")]
    written(tmp_path, *arguments, "--output", "my new.yaml")
    assert load_config(tmp_path / "my new.yaml").dataset.json_file == str(folder / "annotations.json")
    assert "eventide check 'my new.yaml'" in (tmp_path / "my new.yaml").read_text()
    assert "no problems" in run_cli(["check", "my new.yaml"], tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], lines: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command on a terminal where `lines` are typed."""
    from eventide.cli import app, run

    screen, output = Terminal(), io.StringIO()
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", Terminal(lines))
        patch.setattr(sys, "stderr", screen)
        patch.setattr(sys, "stdout", output)
        code = run(app, ["recommend", *arguments])
    return code, output.getvalue(), screen.getvalue()


@pytest.mark.parametrize(
    ("label", "arguments", "lines", "expected"),
    [
        (
            "everything is asked",
            ["--gpus", "0"],
            "segments\nnoisy\n3000\nquality\n",
            "# eventide recommend --events segments --labels noisy --length 3000 --goal quality --gpus 0\n",
        ),
        (
            "points have no boundaries to ask about",
            ["--gpus", "0"],
            "points\nshort\nboth\n",
            "# eventide recommend --events points --length short --goal quality speed --gpus 0\n",
        ),
        ("defaults", ["--gpus", "0", "--length", "long"], "\n\n\n", "--events segments --labels clean --length long"),
        (
            "asked again after nonsense",
            ["--events", "points", "--goal", "speed", "--gpus", "2"],
            "-3\nlong\nmuch\n24GB\n",
            "--events points --length long --goal speed --gpus 2 --memory 24\n",
        ),
    ],
)
def test_questions_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, arguments: list[str], lines: str, expected: str
) -> None:
    monkeypatch.setattr("eventide.engine.recommend.gather.this_machine", lambda: Machine(0, 10**10))
    code, output, screen = typed(tmp_path, monkeypatch, arguments, lines)
    assert code == 0, screen
    assert expected in output
    assert "your answer" in output
    assert ("How long" in screen) is ("--length" not in arguments)
    (tmp_path / "my.yaml").write_text(output)
    assert load_config_with_origins(tmp_path / "my.yaml").notices == []


def test_the_end_of_input_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, screen = typed(tmp_path, monkeypatch, [], "segments\n")
    assert (code, output) == (2, "")
    assert "no answer; the same is said with --labels clean|noisy" in screen


def test_the_memory_of_gpus_that_are_not_here_is_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventide.engine.recommend.gather.this_machine", lambda: Machine(0, 10**10))
    with pytest.raises(CommandLineError, match=r"add --memory GB \(of one GPU\)"):
        written(tmp_path, *FLAGS[:6], "--gpus", "2")
    monkeypatch.setattr("eventide.engine.recommend.gather.this_machine", lambda: Machine(1, 80 * 10**9, "H"))
    assert "H with 80 GB, treated as A100 and H100 (--gpus 2)" in written(tmp_path, *FLAGS[:6], "--gpus", "2")
    assert "H with 80 GB, treated as A100 and H100 (this machine)" in written(tmp_path, *FLAGS[:6])
    assert "no GPU (--gpus 0)" in written(tmp_path, *FLAGS)


def test_files_leave_little_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_files(tmp_path)
    code, output, screen = typed(tmp_path, monkeypatch, [*PLAIN, "--goal", "speed"], "noisy\n")
    assert code == 0, screen
    assert "meta_arch: TBTFormer" in output
    assert "clean, or noisy" in " ".join(screen.split())


KINDS = [
    ("segments", []),
    ("segments", ["--labels", "noisy"]),
    ("segments", ["--goal", "prototype"]),
    ("segments", ["--goal", "deployment", "--gpus", "1", "--memory", "8"]),
    ("points", []),
    ("points", ["--goal", "deployment", "speed", "--gpus", "4", "--memory", "80"]),
]


@pytest.mark.parametrize(("events", "arguments"), KINDS, ids=[" ".join([kind, *words]) for kind, words in KINDS])
def test_check_accepts_it_and_a_step_is_trained(tmp_path: Path, events: str, arguments: list[str]) -> None:
    """On generated data of that kind, at full width."""
    architecture = ["--set", "model.meta_arch=SnapFormer"] if events == "points" else []
    (tmp_path / "toy.yaml").write_text(TOY)
    run_cli(["make-toy", "toy.yaml", "toy", *architecture], tmp_path)
    files = ["--annotations", "toy/annotations.json", "--features", "toy/features"]
    written(tmp_path, *files, *arguments, "--output", "my.yaml")
    assert "no problems, 0 warning(s)" in run_cli(["check", "my.yaml"], tmp_path)

    loaded = load_config_with_origins(tmp_path / "my.yaml")
    assert loaded.notices == []
    config = loaded.config
    config.dataset.json_file = str(tmp_path / config.dataset.json_file)
    config.dataset.feat_folder = str(tmp_path / str(config.dataset.feat_folder))
    assert (config.dataset.feat_stride, config.dataset.num_frames, config.dataset.events) == (4.0, 8.0, events)
    assert check_dataset(config).points.without_point == 0
    torch.manual_seed(0)
    data = EventDataset(config, config.train_split, training=True)
    model = build(config)
    model.set_longest_event(data.longest_event())
    optimizer = build_optimizer(config.opt, model.detector.train(), model.criterion.train())
    batch = collate([data.sample(index) for index in range(config.loader.batch_size)])
    losses = model.criterion(model.detector(batch.features, batch.mask), batch.segments, batch.label_ids)
    losses["final_loss"].backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
