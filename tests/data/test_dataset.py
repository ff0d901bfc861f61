"""Samples: grids, windows, classes, the ActivityNet rules, and data sets that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eventide.config import Config
from eventide.data.dataset import EventDataset, resize
from eventide.data.features import FeatureStore
from eventide.types import EventideError, Sample, Timeline, UsageError
from tests.data.making import hapt_config, make_config, make_data, plain_database, record, write_features, write_json


def dataset_of(config: Config, *, training: bool = False, subset: str = "training") -> EventDataset:
    return EventDataset(config, [subset], training=training)


def same(first: Sample, second: Sample) -> bool:
    return (
        first.id == second.id
        and torch.equal(first.features, second.features)
        and torch.equal(first.segments, second.segments)
        and torch.equal(first.label_ids, second.label_ids)
    )


def test_evaluation_samples_are_whole_recordings(tmp_path: Path) -> None:
    dataset = dataset_of(make_data(tmp_path, crop_ratio=(0.5, 0.6)), subset="VALIDATION")
    assert [recording.id for recording in dataset.recordings] == ["val0", "val1"]
    assert dataset.labels == ["clap", "jump"]
    sample = dataset.sample(1)
    assert (sample.id, dataset.length(1)) == ("val1", 111)
    stored = np.load(tmp_path / "features" / "val1.npy")
    np.testing.assert_array_equal(sample.features.numpy(), stored)
    # (seconds * fps - num_frames / 2) / stride
    assert sample.segments.tolist() == [[3.0, 17.0], [39.0, 62.0]]
    assert sample.segments.dtype == torch.float32
    assert sample.label_ids.tolist() == [1, 0]
    assert sample.timeline == Timeline(10.0, 5.0, 10.0, 60.0)
    assert same(sample, dataset.sample(1, epoch=3))


def test_training_samples_are_windows_of_their_recordings(tmp_path: Path) -> None:
    config = make_data(tmp_path)
    whole, cut = dataset_of(config), dataset_of(config, training=True)
    seen = set()
    for index in range(len(cut)):
        full = whole.sample(index)
        for epoch in range(5):
            sample = cut.sample(index, epoch)
            assert same(sample, cut.sample(index, epoch))
            assert sample.features.shape == (64, 4)
            starts = [
                start
                for start in range(len(full.features) - 63)
                if torch.equal(full.features[start : start + 64], sample.features)
            ]
            assert len(starts) == 1
            seen.add((index, starts[0]))
            for segment, label_id in zip(sample.segments, sample.label_ids, strict=True):
                original = full.segments[full.label_ids == label_id] - starts[0]
                assert torch.isclose(original.clamp(-1, 65), segment).all(dim=1).any()
            assert sample.id == "none" or len(sample.segments) > 0
    assert len(seen) > 25


def test_only_the_window_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = FeatureStore.read

    def read(self: FeatureStore, recording_id: str, *rows: int | None) -> np.ndarray:
        asked.append(rows)
        return real(self, recording_id, *rows)  # type: ignore[arg-type]

    monkeypatch.setattr(FeatureStore, "read", read)
    config = make_data(tmp_path, max_seq_len=10, downsample_rate=2)
    sample = dataset_of(config, training=True).sample(0)
    (rows,) = asked
    assert rows[2] == 2
    assert rows[1] - rows[0] == 19
    np.testing.assert_array_equal(sample.features, np.load(tmp_path / "features/rec0.npy")[rows[0] : rows[1] : 2])


def test_crop_of_short_recordings(tmp_path: Path) -> None:
    dataset = dataset_of(make_data(tmp_path, max_seq_len=500, crop_ratio=(0.5, 0.75)), training=True)
    lengths = {len(dataset.sample(0, epoch).features) for epoch in range(60)}
    assert min(lengths) >= round(0.5 * 119)
    assert max(lengths) <= round(0.75 * 119)
    assert len(lengths) > 15
    uncropped = dataset_of(make_config(tmp_path, max_seq_len=500), training=True)
    assert same(uncropped.sample(0, 1), uncropped.sample(0, 2))


def test_downsampling_keeps_the_offset_in_frames(tmp_path: Path) -> None:
    config = make_data(tmp_path, downsample_rate=4)
    dataset = dataset_of(config, subset="validation")
    sample = dataset.sample(1)
    np.testing.assert_array_equal(sample.features, np.load(tmp_path / "features" / "val1.npy")[::4])
    assert dataset.length(1) == len(sample.features) == 28
    assert sample.timeline == Timeline(10.0, 20.0, 10.0, 60.0)
    assert sample.segments.tolist() == [[0.75, 4.25], [9.75, 15.5]]


def test_one_class_and_many_labels_make_proposals(tmp_path: Path) -> None:
    config = make_data(tmp_path, num_classes=1)
    dataset = dataset_of(config, subset="validation")
    assert dataset.proposals
    assert dataset.labels == ["proposal"]
    assert dataset.sample(1).label_ids.tolist() == [0, 0]
    assert dataset.recordings[1].label_ids.tolist() == [1, 0]  # as annotated
    config.test_cfg.ext_score_file = "scores.json"
    assert dataset_of(config).labels == ["clap", "jump"]


def test_classes_that_the_file_lacks_are_named_by_number(tmp_path: Path) -> None:
    assert dataset_of(make_data(tmp_path, num_classes=4)).labels == ["clap", "jump", "2", "3"]


def test_duplicates_and_empty_segments_are_not_learnt(tmp_path: Path) -> None:
    database = {"a": record((1, 2, "x"), (1, 2, "x"), (1, 2, "y"), (5, 5.0005, "x"))}
    dataset = dataset_of(make_data(tmp_path, database))
    assert len(dataset.recordings[0].segments) == 4
    assert dataset.sample(0).label_ids.tolist() == [0, 1]


def test_rates_of_recordings_and_the_default(tmp_path: Path) -> None:
    database = {"a": record((1, 2, "x"), fps=20), "b": record((1, 2, "y"), fps=None)}
    config = make_data(tmp_path, database)
    with pytest.raises(EventideError, match=r"subset training: recording 'b': no \"fps\".*dataset.default_fps"):
        dataset_of(config)
    dataset = dataset_of(make_config(tmp_path, default_fps=40))
    assert {dataset.timeline(0).fps, dataset.timeline(1).fps} == {40.0}


def fixed(folder: Path, **settings: Any) -> Config:
    """Three recordings, resized to 32 vectors; one annotation goes on after the features have ended."""
    database = {
        "a": record((0, 10, "x"), (12, 20, "y"), duration=20),
        "short": record((1, 4, "x"), (2, 60, "y"), (25, 30, "y"), duration=60),
        "none": record(duration=20),
    }
    return make_data(folder, database, {"a": 39, "short": 20, "none": 32}, max_seq_len=32, **settings)


def test_forced_upsampling_resizes_and_recomputes_the_stride(tmp_path: Path) -> None:
    dataset = dataset_of(fixed(tmp_path, force_upsampling=True))
    sample = dataset.sample(0)
    stride = (38 * 5 + 10) / 32
    assert sample.features.shape == (32, 4)
    assert dataset.length(0) == 32
    assert sample.timeline == Timeline(10.0, stride, stride, 20.0)
    torch.testing.assert_close(sample.segments, torch.tensor([[0, 100], [120, 200]]) / stride - 0.5)
    stored = torch.from_numpy(np.load(tmp_path / "features" / "a.npy"))
    # Vector i is the one at position (i + 0.5) * 39 / 32 - 0.5 of the stored ones.
    position = 10.5 * 39 / 32 - 0.5
    low, part = int(position), position - int(position)
    torch.testing.assert_close(sample.features[10], (1 - part) * stored[low] + part * stored[low + 1])
    np.testing.assert_array_equal(dataset.sample(2).features, np.load(tmp_path / "features" / "none.npy"))


def test_forced_upsampling_drops_events_beyond_the_features_in_training(tmp_path: Path) -> None:
    config = fixed(tmp_path, force_upsampling=True)
    # The features of "short" cover (19 * 5 + 10) / 10 = 10.5 s.
    whole, training = dataset_of(config).sample(1), dataset_of(config, training=True).sample(1)
    assert whole.label_ids.tolist() == [0, 1, 1]
    assert training.label_ids.tolist() == [0]
    torch.testing.assert_close(training.segments, whole.segments[:1])
    # A lower threshold keeps the second event, cut off at the end of the grid.
    config.dataset.trunc_thresh = 0.1
    kept = dataset_of(config, training=True).sample(1)
    assert kept.label_ids.tolist() == [0, 1]
    assert kept.segments[1, 1] == 32.5


def test_without_resizing_nothing_is_dropped_beyond_the_features(tmp_path: Path) -> None:
    assert dataset_of(fixed(tmp_path), training=True).sample(1).label_ids.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("upsample", "length"), [(False, 20), (True, 32)])
def test_features_of_fixed_length_cover_the_duration(tmp_path: Path, upsample: bool, length: int) -> None:
    config = fixed(tmp_path, force_upsampling=upsample, feat_stride=-1)
    stride = 60 * 10 / length
    assert dataset_of(config).sample(1, 0).timeline == Timeline(10.0, stride, stride, 60.0)


def test_resized_recordings_cannot_be_thinned_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="downsample_rate: must be 1"):
        dataset_of(fixed(tmp_path, force_upsampling=True, downsample_rate=2))


def test_resize_leaves_the_right_length_alone() -> None:
    features = torch.arange(6.0).reshape(3, 2)
    assert resize(features, 3) is features
    assert resize(features[:1], 4).tolist() == [[0, 1]] * 4
    assert resize(features, 6)[:, 0].tolist() == pytest.approx([0, 0.5, 1.5, 2.5, 3.5, 4])


def test_missing_features_are_an_error_or_counted(tmp_path: Path) -> None:
    config = make_data(tmp_path)
    for name in ("rec1", "rec4"):
        (tmp_path / "features" / f"{name}.npy").unlink()
    with pytest.raises(EventideError, match="2 problems") as caught:
        dataset_of(config)
    assert "recording 'rec1': no feature file" in str(caught.value)
    assert "rec4.npy" in str(caught.value)
    config.dataset.missing = "skip"
    dataset = dataset_of(config)
    assert len(dataset) == 5
    assert dataset.warnings == ["skipped 2 recording(s) without features: 'rec1', 'rec4'"]
    assert dataset.sample(1).id == "rec2"
    config.dataset.file_prefix = "x_"
    with pytest.raises(EventideError, match="none of the recordings in subset training has features"):
        dataset_of(config)


def test_more_classes_than_the_configuration_has(tmp_path: Path) -> None:
    database = {"a": record(*((i, i + 1, f"label{i}") for i in range(9)))}
    with pytest.raises(
        EventideError, match=r"label ids go up to 8, but dataset\.num_classes is 3: no class for"
    ) as caught:
        dataset_of(make_data(tmp_path, database, num_classes=3))
    assert "label7 (7) and 1 more; set dataset.num_classes to 9" in str(caught.value)


def test_unusable_features_are_named_when_they_are_read(tmp_path: Path) -> None:
    config = make_data(tmp_path)
    write_features(tmp_path / "features", {"rec0": 9}, channels=7)
    with pytest.raises(EventideError, match=r"rec0\.npy: shape \(9, 7\) has 7 channels"):
        dataset_of(config).sample(0)


def test_annotations_can_be_given(tmp_path: Path) -> None:
    from eventide.data.annotations import load_annotations

    config = make_data(tmp_path)
    other = write_json(tmp_path / "other.json", {"rec3": plain_database()["rec3"]})
    dataset = EventDataset(config, ["training"], training=False, annotations=load_annotations(other))
    assert [recording.id for recording in dataset.recordings] == ["rec3"]


def test_real_data(shared_dir: Path) -> None:
    dataset = dataset_of(hapt_config(shared_dir, max_seq_len=256), training=True)
    assert len(dataset) == 42
    samples = [dataset.sample(index, epoch=1) for index in range(len(dataset))]
    assert {tuple(sample.features.shape) for sample in samples} == {(256, 300)}
    assert min(len(sample.segments) for sample in samples) > 0
