"""Toy data sets: what they hold is a function of configuration and seed, fits the configuration, and can be learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eventide.config import Config
from eventide.data.toy import (
    FUSED_CLASSES,
    MOST_VECTORS,
    TRAINING,
    VALIDATION,
    class_directions,
    external_scores,
    make_toy_recording,
    plan_toy,
)
from eventide.ops.timeline import seconds_to_grid
from eventide.types import UsageError

SIZES = {"num_classes": 5, "input_dim": 24, "feat_stride": 4.0, "num_frames": 16.0, "default_fps": 30.0}


def config_of(*, dataset: dict[str, Any] | None = None, **others: Any) -> Config:
    values = {"dataset": {**SIZES, **(dataset or {})}, **others}
    return Config.model_validate(values).resolve()


PROPOSALS = {"dataset": {"num_classes": 1}, "test_cfg": {"ext_score_file": "scores.json"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rates in the annotations": {"dataset": {"default_fps": None}},
    "many classes": {"dataset": {"num_classes": 120}},
    "one class": {"dataset": {"num_classes": 1}},
    "proposals": PROPOSALS,
    "every second vector": {"dataset": {"downsample_rate": 3}},
    "windows wider than steps": {"dataset": {"feat_stride": 2.0, "num_frames": 64.0}},
    "steps wider than windows": {"dataset": {"feat_stride": 32.0, "num_frames": 1.0}},
    "no window": {"dataset": {"num_frames": 0.0}},
    "resized": {"dataset": {"force_upsampling": True, "max_seq_len": 192}},
    "resized to few": {"dataset": {"force_upsampling": True, "max_seq_len": 64, "num_classes": 60}},
    "resized to many": {"dataset": {"force_upsampling": True, "max_seq_len": 4000}},
    "covering the recording": {"dataset": {"feat_stride": -1.0}},
    "covering, resized": {"dataset": {"feat_stride": -1.0, "force_upsampling": True, "max_seq_len": 100}},
    "streams": {"dataset": {"input_dim": [10, 6]}, "model": {"backbone": {"n_embd": [8, 8]}}},
    "excluded classes": {"train_cfg": {"head_empty_cls": [0, 3]}},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@layouts
def test_recordings_are_well_formed(layout: dict[str, Any]) -> None:
    config = config_of(**layout)
    plan, settings = plan_toy(config), config.dataset
    for index in range(len(plan.ids)):
        recording = make_toy_recording(plan, index)
        rows, channels = recording.features.shape
        assert (channels, recording.features.dtype) == (sum(np.atleast_1d(settings.input_dim)), np.float16)
        assert np.isfinite(recording.features).all()
        assert rows <= 1.5 * MOST_VECTORS * settings.downsample_rate
        assert recording.segments.shape == (len(recording.label_ids), 2)
        assert recording.fps == (settings.default_fps or recording.fps) > 0
        starts, ends = recording.segments.T
        assert ((starts >= 0) & (starts < ends) & (ends <= recording.duration)).all()
        assert (np.diff(starts) >= 0).all()
        grid = settings.max_seq_len if settings.force_upsampling else rows / settings.downsample_rate
        assert ((ends - starts) * grid >= 2 * recording.duration * 0.95).all(), "two steps of the grid or more"
        if settings.feat_stride > 0:
            covered = ((rows - 1) * settings.feat_stride + settings.num_frames) / recording.fps
            assert recording.duration == pytest.approx(covered, abs=1e-3)


@layouts
def test_every_class_is_in_training(layout: dict[str, Any]) -> None:
    config = config_of(**layout)
    plan = plan_toy(config)
    recordings = [make_toy_recording(plan, index) for index in range(len(plan.ids))]
    shown = {int(label) for item in recordings[:TRAINING] for label in item.label_ids}
    fused = bool(config.test_cfg.ext_score_file)
    wanted = set(range(FUSED_CLASSES if fused else config.dataset.num_classes)) - set(config.train_cfg.head_empty_cls)
    assert shown == wanted
    everywhere = {int(label) for item in recordings for label in item.label_ids}
    assert everywhere == wanted
    assert [len(item.label_ids) == 0 for item in recordings] == [False] * 5 + [True] + [False] * 2 + [True]
    assert plan.labels == sorted(plan.labels)
    assert len(plan.labels) == (FUSED_CLASSES if fused else config.dataset.num_classes)


def test_a_recording_is_a_function_of_the_seed() -> None:
    one, again, other = (plan_toy(config_of(), seed=seed) for seed in (3, 3, 4))
    for index in (0, 5, 8):
        first, second, third = (make_toy_recording(plan, index) for plan in (one, again, other))
        np.testing.assert_array_equal(first.features, second.features)
        np.testing.assert_array_equal(first.segments, second.segments)
        np.testing.assert_array_equal(first.label_ids, second.label_ids)
        assert first.features.shape != third.features.shape or (first.features != third.features).any()


@pytest.mark.parametrize("layout", ["plain", "many classes", "every second vector", "streams"])
def test_classes_can_be_learnt_from_training(layout: str) -> None:
    """The mean vector of each class's training events tells the classes of the events to evaluate on."""
    config = config_of(**LAYOUTS[layout])
    plan, settings = plan_toy(config), config.dataset
    inside: list[list[np.ndarray]] = [[] for _ in range(plan.num_labels)]
    tested = []
    for index, subset in enumerate(plan.subsets):
        recording = make_toy_recording(plan, index)
        grid = seconds_to_grid(recording.segments, recording.fps, settings.feat_stride, settings.num_frames)
        for (start, end), label_id in zip(grid, recording.label_ids, strict=True):
            mean = recording.features[int(np.ceil(start)) : int(end) + 1].astype(np.float32).mean(axis=0)
            if subset == "training":
                inside[label_id].append(mean)
            else:
                tested.append((mean, int(label_id)))
    centres = np.stack([np.mean(vectors, axis=0) for vectors in inside])
    right = [int(np.argmin(((centres - mean) ** 2).sum(axis=1))) == label_id for mean, label_id in tested]
    assert len(right) >= 16
    assert np.mean(right) >= 0.9


@pytest.mark.parametrize("layout", ["plain", "windows wider than steps", "every second vector"])
def test_events_show_in_the_frames_that_a_vector_covers(layout: str) -> None:
    """Vector r covers num_frames source frames from r * feat_stride on; a shift by one vector fits less well."""
    config = config_of(**LAYOUTS[layout])
    plan, settings = plan_toy(config), config.dataset
    recording, directions = make_toy_recording(plan, 0), class_directions(plan)
    strength = recording.features.astype(np.float32) @ np.linalg.pinv(directions)  # (T, classes)
    expected = np.zeros_like(strength)
    begins = np.arange(len(strength)) * settings.feat_stride / recording.fps
    ends = begins + settings.num_frames / recording.fps
    for (start, end), label_id in zip(recording.segments, recording.label_ids, strict=True):
        inside = np.clip(np.minimum(ends, end) - np.maximum(begins, start), 0, None)
        expected[:, label_id] += inside / (ends - begins)
    misfit = {shift: ((strength - np.roll(expected, shift, axis=0)) ** 2).sum() for shift in range(-3, 4)}
    assert min(misfit, key=lambda shift: misfit[shift]) == 0
    assert np.corrcoef(strength.ravel(), expected.ravel())[0, 1] > 0.8


ALSO_AS_POINTS = (
    *("plain", "rates in the annotations", "many classes", "every second vector", "covering the recording"),
    *("no window", "resized", "windows wider than steps"),
)
POINTS = {label: {**LAYOUTS[label], "model": {"meta_arch": "SnapFormer"}} for label in ALSO_AS_POINTS}


@pytest.mark.parametrize("layout", POINTS.values(), ids=POINTS)
def test_point_events_are_short_bumps_of_their_class(layout: dict[str, Any]) -> None:
    """The direction of an event's class is strongest, of all places and on average, in the vectors at its time."""
    config = config_of(**layout)
    plan, settings = plan_toy(config), config.dataset
    directions = class_directions(plan)
    at_event = []
    for index in range(len(plan.ids)):
        recording = make_toy_recording(plan, index)
        times, ends = recording.segments.T
        assert (times == ends).all()
        assert (np.diff(times) > 0).all()
        assert ((times >= 0) & (times <= recording.duration)).all()
        rows = len(recording.features)
        stride = settings.feat_stride if settings.feat_stride > 0 else recording.duration * recording.fps / rows
        frames = settings.num_frames if settings.feat_stride > 0 else stride
        places = np.clip(seconds_to_grid(times, recording.fps, stride, frames).round(), 0, rows - 1).astype(int)
        strength = recording.features.astype(np.float32) @ directions.T / (directions**2).sum(axis=1)
        at_event += strength[places, recording.label_ids].tolist()
        assert abs(strength.mean()) < 0.1, "most vectors show nothing"
    reach = max(1.0, settings.num_frames / settings.feat_stride) if settings.feat_stride > 0 else 1.0
    assert np.mean(at_event) > 0.6 / reach, "a window averages over more than the bump"


@pytest.mark.parametrize("named", [["snap"], ["zip", "alpha"], ["a", "b", "c", "d", "e"]], ids=len)
def test_labels_that_the_configuration_names_are_there(named: list[str]) -> None:
    widths = dict.fromkeys(named, 0.1)
    plan = plan_toy(config_of(model={"meta_arch": "SnapFormer", "heatmap": {"width": widths}}))
    assert set(named) <= set(plan.labels)
    assert len(plan.labels) == 5
    assert plan.labels == sorted(plan.labels)


@pytest.mark.parametrize(
    ("label", "splits", "recordings", "expected"),
    [
        ("default", (["training"], ["validation"]), None, {"training": 6, "validation": 3}),
        ("fewest", (["training"], ["validation"]), 2, {"training": 1, "validation": 1}),
        ("a third", (["training"], ["validation"]), 12, {"training": 8, "validation": 4}),
        ("several subsets", (["a", "b"], ["c", "d", "e", "f"]), None, {"a": 3, "b": 3, "c": 1, "d": 1, "e": 1, "f": 1}),
        ("several subsets, fewest", (["a", "b"], ["c", "d"]), 4, {"a": 1, "b": 1, "c": 1, "d": 1}),
        ("the same", (["all"], ["All"]), 4, {"all": 4}),
        ("one more", (["a"], ["A", "b"]), 3, {"a": 2, "b": 1}),
        ("named twice", (["a", "A"], ["b", "B"]), 3, {"a": 2, "b": 1}),
    ],
)
def test_subsets(
    label: str, splits: tuple[list[str], list[str]], recordings: int | None, expected: dict[str, int]
) -> None:
    plan = plan_toy(config_of(train_split=splits[0], val_split=splits[1]), recordings)
    counts: dict[str, int] = {}
    for subset in plan.subsets:
        counts[subset.lower()] = counts.get(subset.lower(), 0) + 1
    assert counts == expected
    assert len(set(plan.ids)) == len(plan.subsets) == len(plan.required)


def test_enough_for_a_batch_where_the_last_one_is_left_out() -> None:
    config = config_of(loader={"batch_size": 16, "drop_last": True})
    assert plan_toy(config).subsets.count("training") == 16
    assert plan_toy(config, 18).subsets.count("training") == 16
    with pytest.raises(UsageError, match=r"--recordings 16: .* 17 or more, 16 to train on \(16 make one batch"):
        plan_toy(config, 16)


@pytest.mark.parametrize("recordings", [1, 0, -3])
def test_too_few_recordings(recordings: int) -> None:
    with pytest.raises(UsageError, match=rf"--recordings {recordings}: .* 2 or more, 1 to train on and 1 to evaluate"):
        plan_toy(config_of(), recordings)


@pytest.mark.parametrize(("recordings", "labels"), [(2, 2), (3, 4), (30, FUSED_CLASSES)])
def test_recordings_of_proposals_have_few_classes_that_the_scores_tell(recordings: int, labels: int) -> None:
    """External scores give every segment of a recording the same classes, so it must not have many."""
    plan = plan_toy(config_of(**PROPOSALS), recordings)
    made = [make_toy_recording(plan, index) for index in range(recordings)]
    scores = external_scores(plan, made)
    assert plan.num_labels == labels
    for recording, row in zip(made, scores, strict=True):
        assert len(row) == labels
        assert sum(row) == pytest.approx(1, abs=1e-4)
        classes = set(recording.label_ids.tolist())
        assert len(classes) <= 2
        assert classes <= set(np.argsort(row)[::-1][:2].tolist())


def test_validation() -> None:
    assert plan_toy(config_of()).subsets.count("validation") == VALIDATION
