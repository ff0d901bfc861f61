"""Sizes from the amount of data, lengths and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eventide.data.feature_survey import FeatureFacts
from eventide.engine.recommend.situation import Grid
from tests.engine.recommend.making import CPU, advised, data_of, gpu, values

EVENTS = np.geomspace(2, 200, 400)
LENGTHS = np.full(200, 1000.0)
B = "model.backbone."


def features(channels: int) -> FeatureFacts:
    return FeatureFacts("f", "", ".npy", channels, 1, "r0.npy", 8.0, 8.0, 8.0, 1000)


@pytest.mark.parametrize(
    ("events", "folders", "channels", "heads"),
    [
        (1, 1, 128, 2),
        (299, 1, 128, 2),
        (300, 1, 256, 4),
        (29_999, 1, 256, 4),
        (30_000, 1, 384, 6),
        (30_000, 3, 768, 12),
    ],
)
def test_width_by_events(events: int, folders: int, channels: int, heads: int) -> None:
    data = replace(data_of(LENGTHS, np.full(events, 20.0)), features=tuple(features(10) for _ in range(folders)))
    found = values(data=data)
    assert (found[B + "n_embd"], found[B + "n_head"]) == (channels, heads)


@pytest.mark.parametrize(
    ("label", "events", "folders", "stride", "expected"),
    [
        ("THUMOS14", 3007, 1, 4.0, {"n_embd": 256, "n_head": 4, "mha_win_size": -1}),
        ("ActivityNet", 15_410, 1, -1.0, {"n_embd": 256, "n_head": 4, "mha_win_size": [9, 9, 9, 9, 9, -1]}),
        ("EPIC-Kitchens", 67_217, 1, 16.0, {"n_embd": 384, "n_head": 6}),
        ("Ego4D", 13_659, 3, 16.0, {"n_embd": 768, "n_head": 12}),
    ],
)
def test_data_sets_of_the_guide(label: str, events: int, folders: int, stride: float, expected: dict[str, Any]) -> None:
    """A data set of as many events and features as one that the guide names gets the guide's widths and windows."""
    length = 192 if stride < 0 else 1500
    data = data_of(LENGTHS, np.geomspace(2, 180, events))
    grid = Grid(stride, 16.0, None if stride < 0 else 30.0, ("s", "n", "f"))
    data = replace(data, features=tuple(features(10) for _ in range(folders)), grid=grid)
    found = values(data=data, longest=length)
    assert {key: found[B + key] for key in expected} == expected
    assert all(found[B + f"use_{name}"] for name in ("rope", "flash_attn", "swiglu", "rms_norm"))


@pytest.mark.parametrize(
    ("label", "changes", "expected"),
    [
        ("rounded up", {"longest": 1500}, 1536),
        ("one vector", {"longest": 1}, 64),
        ("cut on a GPU", {"longest": 100_000}, 8192),
        ("cut on a CPU", {"longest": 100_000, "machine": CPU}, 2304),
        ("memory unknown", {"longest": 100_000, "machine": replace(gpu(24), memory=None)}, 8192),
        ("little memory", {"longest": 100_000, "machine": gpu(1)}, 3712),
        ("a long event", {"longest": 100_000, "data": data_of(LENGTHS, np.array([8000.0]))}, 10_000),
        ("a long event in a shorter recording", {"longest": 8100, "data": data_of(LENGTHS, np.array([8000.0]))}, 8128),
    ],
)
def test_training_length(label: str, changes: dict[str, Any], expected: int) -> None:
    assert values(**changes)["dataset.max_seq_len"] == expected


def test_files_of_one_length_keep_it() -> None:
    data = replace(data_of(LENGTHS, EVENTS), grid=Grid(-1.0, 1.0, None, ("s", "n", "f")))
    found = values(longest=100, data=data)
    assert (found["dataset.max_seq_len"], found["dataset.feat_stride"]) == (100, -1.0)
    assert "dataset.crop_ratio" not in found
    assert found["dataset.default_fps"] is None


@pytest.mark.parametrize(
    ("recordings", "machine", "batch", "accumulate"),
    [
        (5, gpu(80), 1, None),
        (42, gpu(80), 2, None),
        (200, gpu(80), 8, None),
        (42, gpu(24), 2, None),
        (160, gpu(24), 2, 4),
        (42, gpu(8), 1, None),
        (80, gpu(8), 1, 4),
        (42, CPU, 2, None),
    ],
)
def test_batches_leave_enough_steps(recordings: int, machine: Any, batch: int, accumulate: int | None) -> None:
    found = values(data=data_of(np.full(recordings, 1000.0), EVENTS), machine=machine)
    assert (found["loader.batch_size"], found.get("--accum-steps")) == (batch, accumulate)


def test_batches_fit_into_memory() -> None:
    found = advised(longest=8192, machine=gpu(80)).choices["loader.batch_size"]
    assert found.value == 8
    small = advised(longest=8192, machine=gpu(40), data=data_of(LENGTHS, np.full(40_000, 5.0))).choices
    assert small["loader.batch_size"].value == 8
    tight = advised(longest=8192, machine=gpu(25.5), data=data_of(LENGTHS, np.full(40_000, 5.0))).choices
    assert tight["loader.batch_size"].value == 4
    assert small[B + "n_embd"].value == 384


@pytest.mark.parametrize(
    ("label", "lengths", "batching"),
    [
        ("alike", np.full(60, 900.0), "longest"),
        ("long tail", np.geomspace(50, 4000, 60), "bucketed"),
        ("one recording", np.array([900.0]), None),
    ],
)
def test_batching(label: str, lengths: np.ndarray, batching: str | None) -> None:
    longest = int(lengths.max())
    assert values(data=data_of(lengths, EVENTS), longest=longest).get("loader.batching") == batching


def test_small_data_sets_are_cropped_and_learn_faster() -> None:
    small, large = (values(data=data_of(np.full(count, 1000.0), EVENTS)) for count in (99, 100))
    assert (small["opt.learning_rate"], small["dataset.crop_ratio"]) == (1e-3, [0.7, 1.0])
    assert large["opt.learning_rate"] == 1e-4
    assert "dataset.crop_ratio" not in large
    assert values(data=data_of(np.full(3, 1000.0), EVENTS))["opt.epochs"] == 200
    assert values(data=data_of(np.full(5000, 1000.0), EVENTS))["opt.epochs"] == 30


def test_levels_follow_the_durations() -> None:
    choices = advised(data=data_of(LENGTHS, EVENTS)).choices
    ranges: Any = choices["model.regression_range"].value
    arch: Any = choices[B + "arch"].value
    assert len(ranges) == arch[2] + 1
    assert "none is out of reach" in choices["model.regression_range"].reason
    assert "model.fpn_start_level" not in choices


def test_long_events_need_no_fine_levels() -> None:
    found = values(data=data_of(LENGTHS, np.full(300, 500.0)), longest=8000)
    assert found["model.fpn_start_level"] == 4
    assert len(found["model.regression_range"]) == found[B + "arch"][2] + 1 - 4


def test_events_within_a_step_are_told() -> None:
    reason = advised(data=data_of(LENGTHS, np.array([0.5, 3.0, 9.0]))).choices["model.regression_range"].reason
    assert "1 of 3 are no longer than a grid step and need finer features, no other is out of reach" in reason


def test_points_have_no_ranges() -> None:
    found = values(data=data_of(LENGTHS, EVENTS), events="points")
    assert "model.regression_range" not in found
    assert found["dataset.point_position"] == "centre"


def test_classes_without_examples() -> None:
    data = data_of(LENGTHS, np.full(2, 20.0), labels=3)
    choices = advised(data=data).choices
    assert choices["train_cfg.head_empty_cls"].value == [2]
    assert "c2" in choices["train_cfg.head_empty_cls"].reason
    assert "train_cfg.head_empty_cls" not in values(data=replace(data, classes=1))
    assert values(data=replace(data, classes=4))["train_cfg.head_empty_cls"] == [2, 3]
