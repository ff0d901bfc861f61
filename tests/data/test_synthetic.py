"""The generated data set: repeatable, well formed, with the difficulties it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eventide.data.synthetic import (
    CHANNELS,
    CLASSES,
    FEAT_STRIDE,
    FPS,
    NUM_FRAMES,
    SyntheticSettings,
    make_dataset,
    make_recording,
)
from eventide.ops.timeline import seconds_to_grid

SETTINGS = SyntheticSettings(recordings=12)


def test_a_recording_is_a_function_of_seed_and_index() -> None:
    first, again, other, reseeded = (
        make_recording(3, SETTINGS),
        make_recording(3, SETTINGS),
        make_recording(4, SETTINGS),
        make_recording(3, SyntheticSettings(seed=8)),
    )
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.segments, again.segments)
    assert first.features.shape != other.features.shape
    assert first.features.shape != reseeded.features.shape


@pytest.mark.parametrize("index", range(12))
def test_recordings_are_well_formed(index: int) -> None:
    recording = make_recording(index, SETTINGS)
    length, channels = recording.features.shape
    assert (channels, recording.features.dtype) == (CHANNELS, np.float32)
    assert np.isfinite(recording.features).all()
    assert length == (round(recording.duration * FPS) - NUM_FRAMES) // FEAT_STRIDE + 1
    assert recording.segments.shape == (len(recording.label_ids), 2)
    starts, ends = recording.segments.T
    assert (starts >= 0).all()
    assert (starts < ends).all()
    assert (ends <= recording.duration).all()
    assert (np.diff(starts) >= 0).all()
    for label_id in range(len(CLASSES)):  # two events of one class never touch
        own = recording.segments[recording.label_ids == label_id]
        assert (own[1:, 0] > own[:-1, 1]).all()


def test_the_data_set_is_not_trivial() -> None:
    settings = SyntheticSettings()
    recordings = [make_recording(index, settings) for index in range(settings.recordings)]
    label_ids = np.concatenate([recording.label_ids for recording in recordings])
    durations = np.concatenate([np.diff(recording.segments, axis=1)[:, 0] for recording in recordings])
    assert sum(len(recording.label_ids) == 0 for recording in recordings) == 6
    assert np.bincount(label_ids, minlength=len(CLASSES)).min() >= 40
    overlaps = sum((recording.segments[1:, 0] < recording.segments[:-1, 1]).sum() for recording in recordings)
    assert overlaps >= 20
    longest_approach = durations[label_ids == 0].max()
    assert longest_approach > np.median(durations[label_ids == 1]) > durations[label_ids == 4].min()


def test_events_show_where_they_are_said_to_be() -> None:
    """Without noise, a vector within a single-phase event is far from the vectors of the background."""
    settings = SyntheticSettings(noise=0.0, distractors_per_minute=0.0, overlap_share=0.0)
    recording = make_recording(0, settings)
    background = np.median(recording.features, axis=0)
    strength = np.linalg.norm(recording.features - background, axis=1)
    centres = seconds_to_grid(recording.segments.mean(axis=1), FPS, FEAT_STRIDE, NUM_FRAMES)
    assert (strength[np.round(centres).astype(int)] > 1.0).all()


def test_make_dataset_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "set", SETTINGS)
    before = {file.name: file.read_bytes() for file in (tmp_path / "set").rglob("*") if file.is_file()}
    assert make_dataset(tmp_path / "set", SETTINGS) == path
    after = {file.name: file.read_bytes() for file in (tmp_path / "set").rglob("*") if file.is_file()}
    assert before == after
    assert len(before) == SETTINGS.recordings + 1

    database = json.loads(path.read_text())["database"]
    subsets = [entry["subset"] for entry in database.values()]
    assert (subsets.count("training"), subsets.count("validation")) == (8, 4)
    for name, entry in database.items():
        recording = make_recording(int(name.removeprefix("recording_")), SETTINGS)
        assert [event["segment"] for event in entry["annotations"]] == recording.segments.tolist()
        assert all(event["label"] == CLASSES[event["label_id"]].label for event in entry["annotations"])
        np.testing.assert_array_equal(np.load(path.parent / "features" / f"{name}.npy"), recording.features)


def test_labels_are_sorted_so_that_ids_need_not_be_stored() -> None:
    labels = [kind.label for kind in CLASSES]
    assert labels == sorted(labels)
