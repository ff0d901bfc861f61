"""Prediction: batches change nothing, every way in gives the same, features are treated as in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import eventide
from eventide.config import ChunkConfig, Config
from eventide.data.dataset import EventDataset
from eventide.engine.evaluate import detect_dataset
from eventide.engine.model_file import StoredModel, save_model
from eventide.engine.predict import MAX_BATCH_VECTORS, Predictor, checked_features, similar_lengths
from eventide.engine.predict_files import with_data_of
from eventide.models import build
from eventide.types import Detections, EventideError, UsageError
from tests.engine.making import CHANNELS, LABELS, run_training, tiny_config

LENGTHS = (40, 1, 7, 33, 200, 38, 64, 2)


def stored(config: Config, fps: float | None = None, seed: int = 1) -> StoredModel:
    """A model with random weights that finds things everywhere."""
    torch.manual_seed(seed)
    detector = build(config).detector
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if name.endswith("cls_head.conv.bias"):
                parameter.fill_(-1.0)
    return StoredModel(config, list(LABELS), fps, dict(detector.state_dict()))


def some_features() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(length, CHANNELS)).astype(np.float32) for length in LENGTHS]


def assert_same(found: Detections, other: Detections, atol: float = 1e-4) -> None:
    assert len(found) == len(other)
    np.testing.assert_allclose(found.scores, other.scores, atol=atol)
    np.testing.assert_allclose(np.sort(found.segments[:, 0]), np.sort(other.segments[:, 0]), atol=100 * atol)


@pytest.mark.parametrize("padding", ["own", "published"])
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_of_mixed_lengths_change_nothing(tmp_path: Path, padding: str, batch_size: int) -> None:
    backbone = {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5, "padding": padding}
    predictor = Predictor(stored(tiny_config(tmp_path, model={"backbone": backbone})), device="cpu")
    features = some_features()
    together = predictor.predict(features, fps=10.0, batch_size=batch_size)
    for array, found in zip(features, together, strict=True):
        assert len(found) > 0
        assert_same(predictor.predict(array, fps=10.0), found)


@given(st.lists(st.integers(1, 20_000), max_size=30), st.integers(1, 8))
def test_groups_hold_every_index_once_within_the_budget(lengths: list[int], batch_size: int) -> None:
    groups = list(similar_lengths(lengths, batch_size))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) <= batch_size
        assert len(group) == 1 or len(group) * longest <= MAX_BATCH_VECTORS


def test_every_way_in_gives_the_same(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    path = tmp_path / "model.safetensors"
    save_model(path, stored(config))
    features = some_features()[0]
    np.save(tmp_path / "a.npy", features)
    torch.save(torch.from_numpy(features), tmp_path / "a.pt")
    predictor = eventide.load(path, device="cpu")
    expected = predictor.predict(features, fps=10.0, duration=19.0)
    assert expected.labels == list(LABELS)
    assert (np.diff(expected.scores) <= 0).all()
    assert expected.segments.min() >= 0
    assert expected.segments.max() <= 19.0
    ways = [torch.from_numpy(features), features.astype(np.float64), tmp_path / "a.npy", str(tmp_path / "a.pt")]
    for way in ways:
        assert_same(predictor.predict(way, fps=10.0, duration=19.0), expected, atol=0)
    assert_same(predictor.predict([features], fps=[10.0], duration=[19.0])[0], expected, atol=0)


def test_a_run_its_best_model_and_its_checkpoint_predict(tiny_data: Path) -> None:
    config = tiny_config(tiny_data, opt={"epochs": 1, "warmup_epochs": 0})
    run = run_training(tiny_data, config, "to predict").folder.path
    features = some_features()[0]
    paths = [run, run / "best.safetensors", run / "checkpoints", run / "checkpoints" / "step_00000003.pt"]
    found = [eventide.load(path, device="cpu").predict(features) for path in paths]
    for other in found[1:]:
        assert_same(other, found[0], atol=0)


def test_the_rate_is_that_given_else_the_models(tmp_path: Path) -> None:
    features = some_features()[0]
    config = tiny_config(tmp_path)
    slow = Predictor(stored(config), device="cpu").predict(features, fps=5.0)
    known = Predictor(stored(config, fps=5.0), device="cpu")
    assert_same(known.predict(features), slow, atol=0)
    fast = known.predict(features, fps=10.0)
    np.testing.assert_allclose(fast.segments, slow.segments / 2, rtol=1e-6)
    default = tiny_config(tmp_path, dataset={**config.dataset.model_dump(), "default_fps": 5.0})
    assert_same(Predictor(stored(default), device="cpu").predict(features), slow, atol=0)
    with pytest.raises(EventideError, match="frame rate is not known"):
        Predictor(stored(config), device="cpu").predict(features)


@pytest.mark.parametrize(
    ("label", "dataset"),
    [
        ("as they are", {}),
        ("resized", {"force_upsampling": True, "num_frames": 15.0}),
        ("every third", {"downsample_rate": 3}),
    ],
)
def test_raw_features_are_treated_as_in_the_data_set(tiny_data: Path, label: str, dataset: dict[str, object]) -> None:
    plain = tiny_config(tiny_data)
    config = tiny_config(tiny_data, dataset={**plain.dataset.model_dump(), **dataset})
    predictor = Predictor(stored(config), device="cpu")
    validation = EventDataset(config, ["validation"], training=False)
    expected = detect_dataset(predictor.inference, validation, 0, lambda done, total: None)
    assert len(expected) == 3
    for recording in validation.recordings:
        features = validation.store.read(recording.id)
        assert_same(predictor.predict(features, fps=recording.fps, duration=recording.duration), expected[recording.id])


def test_windows_find_the_same_in_a_long_recording(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    features = np.random.default_rng(0).normal(size=(700, CHANNELS))
    whole = Predictor(stored(config), device="cpu").predict(features, fps=10.0)
    test_cfg = config.test_cfg.model_copy(update={"chunk": ChunkConfig(length=256, overlap=128), "batch_size": 2})
    chunked = Predictor(stored(config.model_copy(update={"test_cfg": test_cfg})), device="cpu")
    assert_same(chunked.predict(features, fps=10.0), whole)


def test_lists_must_fit_together(tmp_path: Path) -> None:
    predictor = Predictor(stored(tiny_config(tmp_path)), device="cpu")
    with pytest.raises(UsageError, match="2 values of fps for 1 recordings"):
        predictor.predict([np.zeros((4, CHANNELS))], fps=[1.0, 2.0])
    with pytest.raises(UsageError, match="2 ids for 1 recordings"):
        predictor.predict([np.zeros((4, CHANNELS))], fps=1.0, ids=["a", "b"])


def test_no_recordings_give_no_detections(tmp_path: Path) -> None:
    assert Predictor(stored(tiny_config(tmp_path)), device="cpu").predict([], fps=1.0) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_value_that_is_no_number_is_found(value: float) -> None:
    rows = np.zeros((5, 3), np.float32)
    rows[2, 1] = value
    with pytest.raises(EventideError, match="1 values are NaN or Inf, the first in feature vector 2, channel 1"):
        checked_features(rows, 3, "features")


ARRAYS = [
    pytest.param(lambda x: x, True, id="as it is"),
    pytest.param(lambda x: np.lib.stride_tricks.as_strided(x, writeable=False), False, id="read only"),
    pytest.param(lambda x: x[::-1], False, id="backwards"),
    pytest.param(lambda x: x.T.copy().T, False, id="column after column"),
    pytest.param(lambda x: x.astype(np.float16), False, id="float16"),
    pytest.param(lambda x: x.astype(">f4"), False, id="big-endian"),
    pytest.param(lambda x: x.tolist(), False, id="lists"),
]


@pytest.mark.parametrize(("turn", "shares"), ARRAYS)
def test_arrays_of_any_kind(turn: Callable[[np.ndarray], Any], shares: bool) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = turn(rows)
    found = checked_features(given, 3, "features")
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), np.asarray(given, np.float32))
    assert np.shares_memory(found.numpy(), rows) == shares


def test_one_bad_recording_is_named(tmp_path: Path) -> None:
    predictor = Predictor(stored(tiny_config(tmp_path)), device="cpu")
    bad = np.zeros((4, CHANNELS))
    bad[1, 1] = np.inf
    with pytest.raises(EventideError, match="b: 1 values are NaN or Inf, the first in feature vector 1, channel 1"):
        predictor.predict([np.zeros((4, CHANNELS)), bad], fps=1.0, ids=["a", "b"])


def with_test_cfg(config: Config, **values: object) -> Config:
    return config.model_copy(update={"test_cfg": config.test_cfg.model_copy(update=values)})


def test_operating_point_leaves_out_what_scores_too_low(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    features = some_features()[0]
    everything = Predictor(stored(config), device="cpu").predict(features, fps=10.0)
    thresholds = {"clap": float(np.median(everything.scores)), "jump": float(everything.scores[3])}
    path = tmp_path / "model.safetensors"
    save_model(path, stored(with_test_cfg(config, class_threshold=thresholds)))
    assert_same(eventide.load(path, device="cpu").predict(features, fps=10.0), everything, atol=0)
    some = eventide.load(path, device="cpu", operating_point=True).predict(features, fps=10.0)
    lowest = np.array([thresholds[label] for label in LABELS], np.float32)
    assert 0 < len(some) < len(everything)
    np.testing.assert_array_equal(some.scores, everything.scores[everything.scores >= lowest[everything.label_ids]])


def test_a_model_without_thresholds_has_no_operating_point(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, stored(tiny_config(tmp_path)))
    with pytest.raises(EventideError, match=r"model\.safetensors has no operating point.*eventide calibrate"):
        eventide.load(path, device="cpu", operating_point=True)


def test_temperature_of_the_model_changes_its_scores(tmp_path: Path) -> None:
    config = with_test_cfg(tiny_config(tmp_path), nms_method="none", pre_nms_thresh=0.0, min_score=0.0)
    features = some_features()[0]
    plain, even, cool = (
        Predictor(stored(with_test_cfg(config, score_temperature=value)), device="cpu").predict(features, fps=10.0)
        for value in (None, 1.0, 2.0)
    )
    assert_same(even, plain, atol=0)
    logits = np.log(plain.scores.astype(np.float64) / (1 - plain.scores))
    np.testing.assert_allclose(cool.scores, 1 / (1 + np.exp(-logits / 2)), rtol=1e-4)


def test_what_calibration_found_stays_with_the_model(tmp_path: Path) -> None:
    stored_config = with_test_cfg(tiny_config(tmp_path), score_temperature=2.0, class_threshold={"clap": 0.5})
    other = with_test_cfg(tiny_config(tmp_path), max_seg_num=7, class_threshold={"jump": 0.25})
    found = with_data_of(other, Path("c.yaml"), Path("m.safetensors"))(stored_config).test_cfg
    assert found.score_temperature == 2.0
    assert found.class_threshold == {"jump": 0.25}  # of the file, where it says something
    assert found.max_seg_num == 7
