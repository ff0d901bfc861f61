"""What the training command must do with every registered architecture, without it being named here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import eventide
from eventide.config import Config
from eventide.data.dataset import EventDataset
from eventide.engine.evaluate import detect_dataset
from eventide.engine.model_file import load_model
from eventide.engine.predict import Predictor
from eventide.models import BUILDERS
from eventide.types import Detections
from tests.engine.making import run_training, tiny_config, write_data
from tests.engine.test_fit import StoppedError, assert_same_run, stop_at


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that holds `data/`: segments, which are points at their centres where points are learnt."""
    folder = tmp_path_factory.mktemp("architectures")
    write_data(folder)
    return folder


@pytest.fixture(params=sorted(BUILDERS))
def config(request: pytest.FixtureRequest, data: Path) -> Config:
    """Backbone v2 and the largest neck, with dropout, so that random numbers must resume too."""
    backbone = {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}
    kind = {"meta_arch": request.param, "backbone_type": "convTransformerv2", "fpn_type": "cs_fpn"}
    return tiny_config(data, model={**kind, "backbone": backbone})


def assert_equal(found: Detections, other: Detections) -> None:
    """To the bit."""
    assert found.kind == other.kind
    assert found.quantile_levels == other.quantile_levels
    for name in ("segments", "scores", "label_ids", "segment_std", "quantiles"):
        mine, theirs = getattr(found, name), getattr(other, name)
        assert (mine is None) == (theirs is None), name
        assert mine is None or np.array_equal(mine, theirs), name


def test_a_run_goes_on_to_the_bit_and_is_loaded_to_the_bit(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after 7 of 12 steps and resumed: nothing differs. What is loaded detects as the trained model does."""
    whole = run_training(tmp_path, config, "whole", checkpoint_steps=1, print_freq=5)
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(StoppedError):
            run_training(tmp_path, config, "broken", checkpoint_steps=1, print_freq=5)
    resumed = run_training(tmp_path, config, "broken", resume="auto", print_freq=5)
    assert_same_run(whole.folder.path, resumed.folder.path)

    validation = EventDataset(config, config.val_split, training=False)
    best = Predictor(load_model(whole.folder.best), device="cpu")
    expected = detect_dataset(best.inference, validation, 0, lambda done, total: None)
    loaded = eventide.load(resumed.folder.path, device="cpu")
    for recording in validation.recordings:
        features = validation.store.read(recording.id)
        found = loaded.predict(features, fps=recording.fps, duration=recording.duration)
        assert found.kind == config.dataset.events
        assert len(found) > 0
        assert_equal(found, expected[recording.id])
