"""engine/postprocess.py: what settings make of candidates, and what travels with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.config import TestConfig
from eventide.engine.external_scores import ExternalScores
from eventide.engine.postprocess import check_settings, postprocess
from eventide.types import Candidates, Detections, EventideError, EventKind, Timeline

LABELS = ["clap", "jump"]
PLAIN = Timeline(fps=1.0, feat_stride=1.0, num_frames=0.0)  # a grid step is a second


def candidates_of(events: list[tuple[float, float, float, int]], std: float | None = None) -> Candidates:
    """Candidates from rows of start, end, score, label id; quantiles at a step before and two after each boundary."""
    rows = np.array(events, np.float32).reshape(-1, 4)
    found = Candidates(rows[:, :2], rows[:, 2], rows[:, 3].astype(np.int64))
    if std is not None:
        found.std = np.stack([np.full(len(rows), std), 2 * std + np.arange(len(rows))], axis=1).astype(np.float32)
        found.quantiles = rows[:, :2, None] + np.array([-1.0, 2.0], np.float32)
    return found


def run(
    events: list[tuple[float, float, float, int]] | Candidates,
    kind: EventKind = "segments",
    timeline: Timeline = PLAIN,
    operating_point: bool = False,
    **settings: Any,
) -> Detections:
    found = events if isinstance(events, Candidates) else candidates_of(events)
    return postprocess(found, timeline, TestConfig(**settings), LABELS, kind, operating_point)


EVENTS = [(0.0, 4.0, 0.9, 0), (1.0, 4.0, 0.8, 0), (6.0, 8.0, 0.7, 0), (6.0, 9.0, 0.6, 1), (20.0, 21.0, 0.3, 1)]


@pytest.mark.parametrize(
    ("label", "settings", "starts"),
    [
        ("nothing suppressed", {"nms_method": "none"}, [0, 1, 6, 6, 20]),
        ("hard", {"nms_method": "hard", "iou_threshold": 0.5}, [0, 6, 6, 20]),
        ("hard, far centres", {"nms_method": "hard", "iou_threshold": 0.74, "use_diou_nms": True}, [0, 1, 6, 6, 20]),
        ("width of a class", {"class_sigma": {"clap": 1e9}}, [0, 1, 6, 6, 20]),
        ("width of the other class", {"class_sigma": {"jump": 1e9}}, [0, 6, 6, 20, 1]),
        ("width across classes", {"multiclass_nms": False, "voting_thresh": 0.0}, [0, 6, 20, 1, 6]),
        ("gap of all", {"nms_method": "none", "min_gap": 2.5}, [0, 6, 20]),
        ("gap of a class", {"nms_method": "none", "min_gap": {"clap": 2.5}}, [0, 6, 20]),
        ("gap of the other", {"nms_method": "none", "min_gap": {"jump": 12.0}}, [0, 1, 6, 6]),
        ("overlap", {"nms_method": "none", "max_overlap": 0.7}, [0, 6, 6, 20]),
        ("overlap of a class", {"nms_method": "none", "max_overlap": {"jump": 0.0}}, [0, 1, 6, 6, 20]),
        ("durations of all", {"nms_method": "none", "duration_limits": (2.0, 3.0)}, [1, 6, 6]),
        ("durations of a class", {"nms_method": "none", "duration_limits": {"jump": (2.0, 9.0)}}, [0, 1, 6, 6]),
        (
            "thresholds act at the operating point only",
            {"nms_method": "none", "class_threshold": {"clap": 1.0}},
            [0, 1, 6, 6, 20],
        ),
    ],
)
def test_settings(label: str, settings: dict[str, Any], starts: list[float]) -> None:
    assert run(EVENTS, **settings).segments[:, 0].tolist() == starts


VOTERS = [(0.0, 4.0, 0.9, 0), (1.0, 4.0, 0.8, 0), (0.0, 4.0, 0.7, 1)]


@pytest.mark.parametrize(
    ("label", "std", "settings", "moves"),
    [
        ("off without std", None, {}, False),
        ("on with std", 0.3, {}, True),
        ("asked for", None, {"class_voting_thresh": 0.5}, True),
        ("turned off", 0.3, {"class_voting_thresh": 0.0}, False),
        ("too little overlap", 0.3, {"class_voting_thresh": 0.8}, False),
        ("nothing suppressed, nothing moved", 0.3, {"nms_method": "none"}, False),
        ("across classes there is another vote", 0.3, {"multiclass_nms": False, "voting_thresh": 0.0}, False),
    ],
)
def test_votes_within_a_class(label: str, std: float | None, settings: dict[str, Any], moves: bool) -> None:
    found = run(candidates_of(VOTERS, std), quantiles=[0.1, 0.9] if std else None, **settings)
    first = found.segments[(found.scores == np.float32(0.9))][0]
    assert (0.0 < first[0] < 0.5) == moves
    assert first[1] == 4.0
    if found.quantiles is not None:  # they move with their boundary
        np.testing.assert_allclose(found.quantiles[0, 0], np.clip(first[0] + np.array([-1.0, 2.0]), 0, None), atol=1e-5)
    other = found.segments[found.label_ids == 1]
    np.testing.assert_array_equal(other, [[0.0, 4.0]] * len(other))


@pytest.mark.parametrize(
    ("label", "settings", "scores"),
    [
        ("both classes", {"class_threshold": {"clap": 0.8, "jump": 0.5}}, [0.9, 0.8, 0.6]),
        ("no threshold: min_score", {"class_threshold": {"clap": 0.95}}, [0.6, 0.3]),
        ("no threshold: a higher min_score", {"class_threshold": {"clap": 0.95}, "min_score": 0.5}, [0.6]),
        ("lower than min_score", {"class_threshold": {"jump": 0.1}, "min_score": 0.25}, [0.9, 0.8, 0.7, 0.6, 0.3]),
        ("nothing", {"class_threshold": {"clap": 1.0, "jump": 1.0}}, []),
        ("rules first", {"class_threshold": {"clap": 0.1, "jump": 1.0}, "min_gap": 0.0}, [0.9, 0.7]),
    ],
)
def test_operating_point(label: str, settings: dict[str, Any], scores: list[float]) -> None:
    found = run(EVENTS, operating_point=True, nms_method="none", **settings)
    assert found.scores.tolist() == pytest.approx(scores)


@pytest.mark.parametrize("method", ["soft", "hard", "none"])
@pytest.mark.parametrize("kind", ["segments", "points"])
def test_no_candidates(method: str, kind: EventKind) -> None:
    found = run(candidates_of([], std=1.0), kind, nms_method=method, min_gap=1.0, quantiles=[0.1, 0.9])
    assert len(found) == 0
    assert found.kind == kind
    assert found.segments.shape == (0, 2)
    assert found.segment_std is not None
    assert found.segment_std.shape == (0, 2)
    assert found.quantiles is not None
    assert found.quantiles.shape == (0, 2, 2)


def test_a_class_without_a_name() -> None:
    found = run([(0, 1, 0.9, 5), (1, 2, 0.8, 5)], min_gap=0.5, class_sigma={"jump": 1.0})
    assert found.label_ids.tolist() == [5]


@st.composite
def crowds(draw: st.DrawFn) -> Candidates:
    """Up to 60 candidates of two classes, crowded."""
    number = st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(1, 99), st.integers(0, 1))
    rows = draw(st.lists(number, max_size=60))
    return candidates_of([(start, start + length, score / 100, label) for start, length, score, label in rows], std=1.0)


@given(
    crowds(),
    st.sampled_from(["soft", "hard", "none"]),
    st.integers(1, 5),
    st.sampled_from([{}, {"min_gap": 3.0}, {"max_overlap": 0.2, "duration_limits": (2.0, 8.0)}]),
    st.booleans(),
)
def test_the_most_cuts_last(
    candidates: Candidates, method: Any, most: int, rules: dict[str, Any], operating_point: bool
) -> None:
    """However many rules drop, the best `max_seg_num` are those of all."""
    settings = {"nms_method": method, "class_threshold": {"clap": 0.4, "jump": 0.2}, **rules}
    few, all_ = (
        run(candidates, operating_point=operating_point, max_seg_num=number, **settings) for number in (most, 1000)
    )
    np.testing.assert_array_equal(few.segments, all_.segments[:most])
    np.testing.assert_array_equal(few.scores, all_.scores[:most])


@given(crowds(), st.sampled_from(["soft", "hard", "none"]), st.booleans())
def test_the_operating_point_only_leaves_out(candidates: Candidates, method: Any, multiclass: bool) -> None:
    settings = {"nms_method": method, "multiclass_nms": multiclass, "class_threshold": {"clap": 0.4, "jump": 0.2}}
    all_, some = (run(candidates, operating_point=flag, min_gap=1.0, **settings) for flag in (False, True))
    reached = all_.scores >= np.array([0.4, 0.2], np.float32)[all_.label_ids]
    np.testing.assert_array_equal(some.segments, all_.segments[reached])
    np.testing.assert_array_equal(some.scores, all_.scores[reached])


def test_points_are_not_suppressed_and_keep_their_distance() -> None:
    events = [(1.0, 1.0, 0.2, 0), (1.5, 1.5, 0.9, 0), (1.5, 1.5, 0.5, 1), (4.0, 4.0, 0.001, 0), (5.0, 5.0, 0.0005, 0)]
    alone = run(events, "points", nms_method="hard")
    assert alone.kind == "points"
    assert alone.segments[:, 0].tolist() == [1.5, 1.5, 1.0, 4.0]  # what scores below min_score is out
    np.testing.assert_array_equal(alone.segments[:, 0], alone.segments[:, 1])
    assert run(events, "points", min_gap=1.0).segments[:, 0].tolist() == [1.5, 1.5, 4.0]
    assert run(events, "points", min_gap={"jump": 1.0}).segments[:, 0].tolist() == [1.5, 1.5, 1.0, 4.0]
    assert run(events, "points", max_seg_num=2).scores.tolist() == pytest.approx([0.9, 0.5])
    some = run(events, "points", operating_point=True, class_threshold={"clap": 0.15, "jump": 0.6})
    assert some.segments[:, 0].tolist() == [1.5, 1.0]
    assert alone.to_list()[0] == {"time": 1.5, "label": "clap", "label_id": 0, "score": pytest.approx(0.9)}


def test_deviation_and_quantiles_in_seconds() -> None:
    timeline = Timeline(fps=10.0, feat_stride=5.0, num_frames=8.0, duration=5.0)
    found = run(candidates_of([(2.0, 6.0, 0.9, 0)], std=0.5), timeline=timeline, quantiles=[0.1, 0.9])
    assert found.segments.tolist() == pytest.approx(np.array([[1.4, 3.4]]))
    assert found.segment_std is not None
    assert found.quantiles is not None
    assert found.segment_std.tolist() == pytest.approx(np.array([[0.25, 0.5]]))
    np.testing.assert_allclose(found.quantiles, [[[0.9, 2.4], [2.9, 4.4]]], rtol=1e-6)
    assert found.quantile_levels == (0.1, 0.9)
    assert list(found.to_list()[0]["quantiles"]) == ["0.1", "0.9"]
    for array in (found.segments, found.segment_std, found.quantiles):
        assert array.dtype == np.float32


def test_scale_stretches_about_the_boundary_and_quantiles_are_cut_to_the_recording() -> None:
    timeline = Timeline(fps=1.0, feat_stride=1.0, num_frames=0.0, duration=8.0)
    found = run(candidates_of([(2.0, 6.0, 0.9, 0)], std=0.5), timeline=timeline, quantiles=[0.1, 0.9], std_scale=3.0)
    assert found.segments.tolist() == [[2.0, 6.0]]
    assert found.segment_std is not None
    assert found.quantiles is not None
    assert found.segment_std.tolist() == [[1.5, 3.0]]
    assert found.quantiles.tolist() == [[[0.0, 8.0], [3.0, 8.0]]]  # [-1, 8], [3, 12] before the cut


@pytest.mark.parametrize("method", ["soft", "hard", "none"])
def test_deviation_and_quantiles_stay_with_their_candidate(method: str) -> None:
    candidates = candidates_of([(10, 12, 0.3, 0), (0, 4, 0.9, 0), (1, 4, 0.8, 0), (20, 24, 0.5, 1)], std=1.0)
    found = run(candidates, nms_method=method, iou_threshold=0.5, quantiles=[0.1, 0.9], class_voting_thresh=0.0)
    assert found.segment_std is not None
    assert found.quantiles is not None
    for segment, std, quantiles in zip(found.segments, found.segment_std, found.quantiles, strict=True):
        row = int(np.flatnonzero(candidates.segments[:, 0] == segment[0])[0])
        assert std.tolist() == [1.0, 2.0 + row]
        np.testing.assert_allclose(quantiles, np.maximum(segment[:, None] + [-1.0, 2.0], 0.0))


def test_voting_moves_quantiles_with_their_boundary() -> None:
    candidates = candidates_of([(10, 20, 0.8, 0), (12, 20, 0.4, 0)], std=1.0)
    found = run(candidates, multiclass_nms=False, voting_thresh=0.7, quantiles=[0.1, 0.9])
    assert 10 < found.segments[0, 0] < 12
    assert found.segment_std is not None
    assert found.quantiles is not None
    np.testing.assert_allclose(found.quantiles - found.segments[:, :, None], [[[-1, 2]] * 2] * 2, atol=1e-5)
    assert found.segment_std[0].tolist() == [1.0, 2.0]


def test_rules_act_on_fused_classes(tmp_path: Any) -> None:
    settings = TestConfig(
        nms_method="none", ext_score_file="scores.json", min_gap={"jump": 5.0}, class_threshold={"clap": 0.5}
    )
    proposals = postprocess(
        candidates_of([(0, 4, 0.9, 0), (5, 8, 0.4, 0)], std=1.0), PLAIN, settings, LABELS, operating_point=True
    )
    assert len(proposals) == 2
    scores = ExternalScores(tmp_path, {"a": np.array([0.4, 1.0])}, settings)
    fused = scores.fuse("a", proposals)
    assert [(LABELS[i], s) for i, s in zip(fused.label_ids, fused.segments[:, 0].tolist(), strict=True)] == [
        ("jump", 0.0), ("clap", 0.0), ("clap", 5.0),
    ]  # fmt: skip
    assert fused.segment_std is not None
    assert fused.segment_std.tolist() == [[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]]
    at_point = ExternalScores(tmp_path, scores.scores, settings, operating_point=True).fuse("a", proposals)
    assert [LABELS[i] for i in at_point.label_ids] == ["jump", "clap"]


def test_settings_are_checked_before_the_first_recording() -> None:
    check_settings(TestConfig(), [])
    check_settings(TestConfig(class_threshold={"jump": 0.5}), LABELS, operating_point=True)
    check_settings(TestConfig(class_threshold={"x": 0.5}, ext_score_file="a.json"), LABELS)
    with pytest.raises(EventideError, match=r"m: 2 problems\n.*class_sigma.*\n.*duration_limits"):
        check_settings(TestConfig(class_sigma={"x": 0.5}, duration_limits={"y": (0.0, 1.0)}), LABELS, source="m")
    for settings in (TestConfig(), TestConfig(class_threshold={})):
        with pytest.raises(EventideError, match=r"m has no operating point.*eventide calibrate"):
            check_settings(settings, LABELS, operating_point=True, source="m")
