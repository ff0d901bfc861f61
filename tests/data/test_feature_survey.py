"""Facts of feature files from their headers: names, channels, stride and coverage from durations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data.feature_survey import FeatureFacts, _num_frames, _stride, survey_features
from eventide.types import EventideError, Recording, UsageError

NO_EVENTS = (np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def recordings(*seconds: float | None, fps: float | None = 30.0) -> list[Recording]:
    return [Recording(f"r{i}", "training", fps, length, *NO_EVENTS) for i, length in enumerate(seconds)]


def surveyed(
    folder: Path, rows: list[int], items: list[Recording], name: str = "{}.npy", width: int = 3
) -> FeatureFacts:
    for item, count in zip(items, rows, strict=True):
        np.save(folder / name.format(item.id), np.zeros((count, width), np.float16))
    return survey_features(folder, items)


def test_names_channels_and_stride(tmp_path: Path) -> None:
    """Vectors of 16 frames every 8: a recording of n frames has 1 + (n - 16) // 8."""
    frames = [3000, 1500, 6003, 900]
    found = surveyed(tmp_path, [1 + (n - 16) // 8 for n in frames], recordings(*(n / 30 for n in frames)))
    assert (found.prefix, found.ending, found.channels, found.files, found.first) == ("", ".npy", 3, 4, "r0.npy")
    assert (found.feat_stride, found.num_frames) == (8.0, 16.0)
    assert found.vectors == 1 + (6003 - 16) // 8


@given(
    stride=st.integers(1, 32),
    spans=st.integers(1, 4),
    frames=st.lists(st.integers(4000, 40_000), min_size=8, max_size=8, unique=True),
)
def test_stride_and_coverage_are_found_again(stride: int, spans: int, frames: list[int]) -> None:
    frames = [4000, *frames, 40_000]
    rows = np.array([1 + (n - spans * stride) // stride for n in frames], dtype=float)
    values = np.array(frames, dtype=float)
    assert _stride(values, rows)[0] == stride
    covered = _num_frames(values, rows, float(stride))
    assert covered is None or abs(covered - spans * stride) <= stride


@pytest.mark.parametrize(
    ("label", "frames", "rows", "stride", "covered"),
    [
        ("resized: one length for all", [3000, 900, 6000], [128, 128, 128], -1.0, None),
        ("one length because all are alike", [3000, 3000, 3000], [300, 300, 300], 10.0, 10.0),
        ("one file", [3000], [1000], 3.0, None),
        ("no whole number", [3000, 1500, 6000], [1227, 613, 2454], 2.444, 2.444),
        ("nothing to compare with", [np.nan, np.nan], [10, 20], None, None),
        ("some without duration", [3000, np.nan], [300, 7], 10.0, None),
        ("padded ends", [3000, 1500, 6000], [302, 152, 602], 10.0, None),
        ("nonsense: longer is shorter", [3000, 1500, 6000], [300, 600, 100], None, None),
    ],
)
def test_by_hand(label: str, frames: list[float], rows: list[int], stride: float | None, covered: float | None) -> None:
    values, counts = np.array(frames, dtype=float), np.array(rows, dtype=float)
    found, _ = _stride(values, counts)
    assert found == stride
    assert _num_frames(values, counts, found) == covered


def test_a_prefix(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [300], recordings(100.0), "v_{}.npy")
    assert (found.prefix, found.feat_stride) == ("v_", 10.0)


def test_recordings_without_a_file_are_passed_over(tmp_path: Path) -> None:
    items = recordings(100.0, 100.0)
    found = surveyed(tmp_path, [300], items[1:])
    assert survey_features(tmp_path, items) == found


def test_without_durations_only_the_file_is_known(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [300], recordings(None))
    assert (found.channels, found.feat_stride, found.num_frames) == (3, None, None)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        survey_features(tmp_path / "nowhere", recordings(1.0))
    with pytest.raises(EventideError, match=r"no file with the ending .npy.*'r0'"):
        survey_features(tmp_path, recordings(1.0))
    np.save(tmp_path / "other.npy", np.zeros((3, 2)))
    with pytest.raises(EventideError, match=r"1 file\(s\) such as other.npy, none of them"):
        survey_features(tmp_path, recordings(1.0))
    np.save(tmp_path / "r0.npy", np.zeros(3))
    with pytest.raises(EventideError, match=r"shape \(3,\); expected an array \(T, C\)"):
        survey_features(tmp_path, recordings(1.0))
    np.save(tmp_path / "r0.npy", np.zeros((3, 2)))
    np.save(tmp_path / "r1.npy", np.zeros((3, 4)))
    with pytest.raises(EventideError, match=r"r1.npy: 4 channels, but .*r0.npy has 2"):
        survey_features(tmp_path, recordings(1.0, 1.0))
