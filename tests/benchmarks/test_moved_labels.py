"""What the benchmarks make of annotations before they train, and the tables they print."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from benchmarks import noise, points


def document() -> dict[str, Any]:
    """One recording per subset, the same 40 events of 0.6 s each."""
    events = [{"segment": [2.0 * i, 2.0 * i + 0.6], "label": "a", "label_id": 0} for i in range(40)]
    names = {"rec_1": "training", "rec_2": "validation"}
    records = {name: {"subset": subset, "duration": 80.0, "annotations": events} for name, subset in names.items()}
    return {"database": copy.deepcopy(records)}


def segments_of(content: dict[str, Any], name: str) -> np.ndarray:
    return np.array([item["segment"] for item in content["database"][name]["annotations"]])


@pytest.mark.parametrize("deviation", [0.25, 1.0])
def test_training_boundaries_are_moved_and_stay_possible(deviation: float) -> None:
    before = document()
    moved = noise.move_boundaries(before, deviation, seed=3)
    assert before == document()
    assert moved["database"]["rec_2"] == before["database"]["rec_2"]
    segments = segments_of(moved, "rec_1")
    assert (segments != segments_of(before, "rec_1")).all()
    assert segments.min() >= 0
    assert segments.max() <= 80
    assert (segments[:, 1] - segments[:, 0] >= noise.SHORTEST).all()
    assert np.std(segments - segments_of(before, "rec_1")) == pytest.approx(deviation, rel=0.35)
    labels = [item["label"] for item in moved["database"]["rec_1"]["annotations"]]
    assert labels == ["a"] * 40


def test_one_seed_one_noise() -> None:
    first, same, other = (noise.move_boundaries(document(), 0.5, seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_no_noise_changes_nothing() -> None:
    assert noise.move_boundaries(document(), 0.0, 1) == document()


def test_points_as_segments_are_cut_to_their_recording() -> None:
    events = [{"time": time, "label": "a", "label_id": 0} for time in (0.05, 5.0, 9.98)]
    content = {"database": {"rec": {"subset": "training", "duration": 10.0, "annotations": events}}}
    changed = points.as_segments(content, 0.2)["database"]["rec"]["annotations"]
    assert [item["segment"] for item in changed] == [
        pytest.approx(expected) for expected in ([0.0, 0.15], [4.9, 5.1], [9.88, 10.0])
    ]
    assert all("time" not in item and item["label"] == "a" for item in changed)
    assert events[0]["time"] == 0.05


def test_tables() -> None:
    scores = {(model, level): [np.full(10, 0.5), np.full(10, 0.7)] for model in noise.MODELS for level in (1.0, 0.0)}
    lines = noise.table(scores)
    assert lines[2:4] == [
        "| 0 | LocPointTransformer | 60.00 | 50.00 / 70.00 |",
        "| 0 | TBTFormer | 60.00 | 50.00 / 70.00 |",
    ]
    found = points.table({"points": [np.array([0.5, 0.6, 0.7])], "segments": [np.array([0.1, 0.2, 0.3])]})
    assert found[2] == "| SnapFormer | 50.0 | 60.0 | 70.0 | 50.0 / 60.0 / 70.0 |"
    assert found[3].startswith("| LocPointTransformer, 0.2 s segments | 10.0 | 20.0 | 30.0 |")
