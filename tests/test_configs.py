"""Every file in configs/ works: it loads, its data set is generated and checked, its model built, trained and decoded.

Files enter by themselves. Training is that of the file but for width: levels, windows, switches, streams, classes and
post-processing are kept, the channels of the backbone are few. The full width is built without memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eventide.config import Config, sum_of
from eventide.config_loading import load_config, load_config_with_origins
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.data.loader import collate
from eventide.engine.evaluate import detect_dataset, score
from eventide.engine.inference import Inference
from eventide.engine.optim import build_optimizer
from eventide.models import build
from tests.conftest import REPOSITORY
from tests.errors.error_case import run_cli

FOLDER = REPOSITORY / "configs"
FILES = sorted(FOLDER.rglob("*.yaml"))
NAMES = [path.relative_to(FOLDER).with_suffix("").as_posix() for path in FILES]
HEAD_CHANNELS = 8  # of each attention head of the narrow model, shared by its streams; an even number for each
each_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def narrow(config: Config) -> list[str]:
    """Overrides that make a model small and keep its structure: n_head heads of a few channels."""
    backbone = config.model.backbone
    streams = len(backbone.n_embd) if isinstance(backbone.n_embd, list) else 1
    width = backbone.n_head * (HEAD_CHANNELS // streams // 2 * 2)
    changes = {
        "model.backbone.n_embd": width if streams == 1 else [width] * streams,
        "model.fpn_dim": width * streams,
        "model.head_dim": width * streams,
        "loader.batch_size": 1,
    }
    if backbone.n_hidden is not None:
        changes["model.backbone.n_hidden"] = 4 * width * streams
    return [f"{key}={value}" for key, value in changes.items()]


def toy_config(path: Path, folder: Path, overrides: list[str]) -> Config:
    """The configuration of a toy data set, as the command writes it."""
    assert "eventide check" in run_cli(["make-toy", path, "toy", "--recordings", "3", "--set", *overrides], folder)
    return load_config(folder / "toy" / "config.yaml")


def test_there_are_files() -> None:
    assert {"thumos_i3d", "thumos_i3d_v2", "use_cases/production"} <= set(NAMES)


def test_the_documentation_names_every_file() -> None:
    text = (REPOSITORY / "docs" / "configurations.md").read_text(encoding="utf-8")
    plain = {path.stem.removesuffix("_v2") for path in FILES}
    assert [name for name in sorted(plain) if f"`{name}`" not in text] == []


@each_file
def test_loads_without_notices(path: Path) -> None:
    assert load_config_with_origins(path).notices == []


@each_file
def test_full_size_builds(path: Path) -> None:
    """On the meta device, which has shapes and no memory: the model gives what the decoder expects at every level."""
    config = load_config(path)
    model, length = config.model, 203
    with torch.device("meta"):
        architecture = build(config)
        features = torch.empty(1, sum_of(config.dataset.input_dim), length)
        output = architecture.detector(features)
    points = config.dataset.events == "points"  # of the finest level alone, with one offset per class
    last = model.fpn_start_level if points else model.backbone.arch[2]
    strides = [model.backbone.scale_factor**level for level in range(model.fpn_start_level, last + 1)]
    assert list(architecture.strides) == strides
    width = config.dataset.num_classes if points else 2
    lengths = [-(-length // stride) for stride in strides]
    assert [tuple(logits.shape) for logits in output.logits] == [(1, n, config.dataset.num_classes) for n in lengths]
    assert [tuple(offsets.shape) for offsets in output.offsets] == [(1, n, width) for n in lengths]


@each_file
def test_learns_one_step_and_decodes(path: Path, tmp_path: Path) -> None:
    config = toy_config(path, tmp_path, narrow(load_config(path)))
    report = check_dataset(config)
    assert (report.problems, report.warnings) == ([], [])

    torch.manual_seed(0)
    data = EventDataset(config, config.train_split, training=True)
    architecture = build(config)
    detector, criterion = architecture.detector.train(), architecture.criterion.train()
    optimizer = build_optimizer(config.opt, detector, criterion)
    batch = collate([data.sample(0)])
    losses = criterion(detector(batch.features), batch.segments, batch.label_ids)
    assert all(torch.isfinite(loss) for loss in losses.values())
    losses["final_loss"].backward()
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    gradients = [parameter.grad for parameter in detector.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    optimizer.step()
    assert any((old != new).any() for old, new in zip(before, detector.parameters(), strict=True))

    validation = EventDataset(config, config.val_split, training=False)
    inference = Inference(detector.eval(), architecture.decoder, config, validation.labels)
    found = detect_dataset(inference, validation, 0, lambda done, total: None)
    fused = bool(config.test_cfg.ext_score_file)
    for recording in validation.recordings:
        detections = found[recording.id]
        limit = config.test_cfg.max_seg_num * (config.test_cfg.ext_score_topk if fused else 1)
        assert 0 < len(detections) <= limit
        assert np.isfinite(detections.scores).all()
        assert ((detections.segments >= 0) & (detections.segments <= recording.duration)).all()
        assert detections.label_ids.max() < len(validation.labels)
    metrics = score(validation, found, config, by_class=fused or not validation.proposals)
    assert 0 <= metrics.average_mAP <= 1
