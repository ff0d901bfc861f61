"""ops/nms.py against the published numbers, against a slow plain version, and its laws."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eventide.ops.nms import batched_nms, nms
from eventide.ops.timeline import grid_to_seconds

REFERENCE = Path(__file__).resolve().parent.parent / "reference" / "postprocess_and_eval"
CASES = json.loads((REFERENCE / "nms.json").read_text(encoding="utf-8"))
MODELS = ["thumos_like", "anet_like", "epic_like", "ego4d_like", "two_streams", "conv_backbone", "fpn_full_relpe"]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
SOFT: dict[str, Any] = {"iou_threshold": 0.1, "min_score": 0.001, "max_seg_num": 200, "sigma": 0.5}


def arrays(segments: Any, scores: Any, label_ids: Any) -> Arrays:
    return (
        np.asarray(segments, np.float32).reshape(-1, 2),
        np.asarray(scores, np.float32),
        np.asarray(label_ids, np.int64),
    )


def assert_same(found: Arrays, expected: Arrays, tolerance: float = 1e-5) -> None:
    """Detections compared one to one, whatever the order of equals."""
    assert [len(part) for part in found] == [len(part) for part in expected]
    one, two = (
        np.lexsort((np.round(a[0][:, 1], 2), np.round(a[0][:, 0], 2), a[2], -np.round(a[1], 5)))
        for a in (found, expected)
    )
    np.testing.assert_array_equal(found[2][one], expected[2][two])
    np.testing.assert_allclose(found[1][one], expected[1][two], rtol=0, atol=tolerance)
    np.testing.assert_allclose(found[0][one], expected[0][two], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=[case["key"] for case in CASES])
def test_published_numbers(case: dict[str, Any]) -> None:
    with np.load(REFERENCE / "nms.npz", allow_pickle=False) as stored:
        given_, expected = (
            tuple(stored[f"{case['key']}/{way}_{name}"] for name in ("segments", "scores", "labels"))
            for way in ("in", "out")
        )
    found = batched_nms(
        *given_,
        iou_threshold=case["iou_threshold"],
        min_score=case["min_score"],
        max_seg_num=case["max_seg_num"],
        method="soft" if case["use_soft_nms"] else "hard",
        multiclass=case["multiclass"],
        sigma=case["sigma"],
        voting_thresh=case["voting_thresh"],
    )
    assert_same(found, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_published_detections_from_stored_candidates(name: str, shared_dir: Path) -> None:
    folder = shared_dir / "reference"
    defaults = yaml.safe_load((folder / "actionformer_defaults.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / name / "config.yaml").read_text(encoding="utf-8"))
    settings = {**defaults["test_cfg"], **config.get("test_cfg", {})}
    dataset = {**defaults["dataset"], **config["dataset"]}
    with np.load(folder / name / "case.npz", allow_pickle=False) as stored:
        number = len({key.split("/")[1] for key in stored.files if key.startswith("test/")})
        assert number > 0
        for i in range(number):
            candidates = (stored[f"test/{i}/before_nms/{part}"] for part in ("segments", "scores", "labels"))
            expected = tuple(stored[f"test/{i}/detections/{part}"] for part in ("segments", "scores", "labels"))
            segments, scores, label_ids = batched_nms(
                *candidates,
                iou_threshold=settings["iou_threshold"],
                min_score=settings["min_score"],
                max_seg_num=settings["max_seg_num"],
                method=settings["nms_method"],
                multiclass=settings["multiclass_nms"],
                sigma=settings["nms_sigma"],
                voting_thresh=settings["voting_thresh"],
            )
            if dataset.get("force_upsampling"):  # its grid step depends on the recording: compare what does not
                segments = expected[0]
            else:
                seconds = grid_to_seconds(
                    segments, float(stored[f"test/{i}/fps"]), dataset["feat_stride"], dataset["num_frames"]
                )
                segments = np.clip(seconds, 0, float(stored[f"test/{i}/duration"]))
            assert_same((segments, scores, label_ids), expected, 1e-3)  # type: ignore[arg-type]


def slow_soft(candidates: Arrays, min_score: float, sigma: float) -> tuple[list[int], list[np.float32]]:
    """Gaussian soft-NMS of one class to its very end, the plain way: kept indices and their scores."""
    segments, scores = candidates[0], candidates[1].copy()
    lengths = segments[:, 1] - segments[:, 0] + np.float32(1e-6)
    pool = list(range(len(scores)))
    turn = 0
    while turn < len(pool):
        best = max(range(turn, len(pool)), key=lambda place: (scores[pool[place]], -place))
        pool[turn], pool[best] = pool[best], pool[turn]
        winner = pool[turn]
        place = turn + 1
        while place < len(pool):
            other = pool[place]
            shared = min(segments[winner, 1], segments[other, 1]) - max(segments[winner, 0], segments[other, 0])
            shared = max(np.float32(0), shared)
            overlap = shared / (lengths[winner] + lengths[other] - shared)
            scores[other] *= np.float32(math.exp(-(overlap * overlap) / np.float32(sigma)))
            if scores[other] < np.float32(min_score):
                pool[place] = pool[-1]
                pool.pop()
            else:
                place += 1
        turn += 1
    return pool, [scores[i] for i in pool]


@st.composite
def candidate_sets(draw: st.DrawFn, ties: bool = True) -> Arrays:
    """Up to 40 candidates in up to 3 classes on a coarse grid; with `ties`, few different scores."""
    number = draw(st.integers(0, 40))
    starts = draw(st.lists(st.integers(0, 30), min_size=number, max_size=number))
    lengths = draw(st.lists(st.integers(0, 12), min_size=number, max_size=number))
    if ties:
        scores: list[float] = draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=number, max_size=number))
    else:
        scores = draw(st.lists(st.floats(0.0625, 1, width=16), min_size=number, max_size=number, unique=True).map(list))
    label_ids = draw(st.lists(st.sampled_from([0, 3, 7]), min_size=number, max_size=number))
    return arrays([[a, a + b] for a, b in zip(starts, lengths, strict=True)], scores, label_ids)


@given(candidate_sets(), st.sampled_from([0.0, 0.001, 0.2]), st.sampled_from([0.1, 0.5]), st.integers(1, 50))
def test_soft_equals_the_slow_version_with_ties(
    candidates: Arrays, min_score: float, sigma: float, max_seg_num: int
) -> None:
    expected: list[tuple[float, int, int]] = []
    for label_id in np.unique(candidates[2]):
        places = np.flatnonzero(candidates[2] == label_id)
        kept, scores = slow_soft(
            (candidates[0][places], candidates[1][places], candidates[2][places]), min_score, sigma
        )
        expected += [(float(score), int(label_id), int(places[i])) for i, score in zip(kept, scores, strict=True)]
    expected.sort(key=lambda item: -item[0])
    found = batched_nms(
        *candidates, iou_threshold=0.1, min_score=min_score, max_seg_num=max_seg_num, method="soft", sigma=sigma
    )
    expected = expected[:max_seg_num]
    np.testing.assert_array_equal(found[0], candidates[0][[item[2] for item in expected]].reshape(-1, 2))
    np.testing.assert_allclose(found[1], [item[0] for item in expected], rtol=1e-6)
    np.testing.assert_array_equal(found[2], [item[1] for item in expected])


@given(candidate_sets(), st.sampled_from([0.1, 0.5, 1.0]), st.integers(1, 50))
def test_hard_leaves_no_overlap_and_drops_nothing_without_reason(
    candidates: Arrays, threshold: float, max_seg_num: int
) -> None:
    everything = len(candidates[1])
    segments, scores, label_ids = batched_nms(
        *candidates, iou_threshold=threshold, min_score=0, max_seg_num=everything, method="hard"
    )
    lengths = segments[:, 1] - segments[:, 0] + np.float32(1e-6)
    for i in range(len(scores)):
        shared = np.minimum(segments[:, 1], segments[i, 1]) - np.maximum(segments[:, 0], segments[i, 0])
        overlap = np.maximum(shared, 0) / (lengths + lengths[i] - np.maximum(shared, 0))
        same = (label_ids == label_ids[i]) & (np.arange(len(scores)) != i)
        assert not (overlap[same] >= np.float32(threshold)).any()
    for label_id in np.unique(candidates[2]):
        assert candidates[1][candidates[2] == label_id].max() == scores[label_ids == label_id].max()
    fewer = batched_nms(*candidates, iou_threshold=threshold, min_score=0, max_seg_num=max_seg_num, method="hard")
    np.testing.assert_array_equal(fewer[0], segments[:max_seg_num])


@given(candidate_sets(), st.sampled_from(["soft", "hard", "none"]), st.booleans(), st.integers(1, 20))
def test_laws(candidates: Arrays, method: Any, multiclass: bool, max_seg_num: int) -> None:
    settings = {**SOFT, "method": method, "multiclass": multiclass, "voting_thresh": 0.7}
    segments, scores, label_ids = batched_nms(*candidates, **settings)
    assert (np.diff(scores) <= 0).all()
    assert set(label_ids.tolist()) <= set(candidates[2].tolist())
    assert segments.dtype == scores.dtype == np.float32
    assert label_ids.dtype == np.int64
    if len(candidates[1]):
        assert segments.min() >= candidates[0].min() - 1e-4
        assert segments.max() <= candidates[0].max() + 1e-4
    fewer = batched_nms(*candidates, **{**settings, "max_seg_num": max_seg_num})
    for part, whole in zip(fewer, (segments, scores, label_ids), strict=True):
        np.testing.assert_array_equal(part, whole[:max_seg_num])


@given(candidate_sets(), st.sampled_from(["soft", "hard", "none"]), st.booleans(), st.sampled_from([0.0, 0.7]))
def test_indices_say_which_candidate_was_kept(candidates: Arrays, method: Any, multiclass: bool, voting: float) -> None:
    kept = nms(*candidates, **SOFT, method=method, multiclass=multiclass, voting_thresh=voting)
    assert kept.indices.dtype == np.int64
    assert len(set(kept.indices.tolist())) == len(kept.indices)
    np.testing.assert_array_equal(kept.label_ids, candidates[2][kept.indices])
    assert (kept.scores <= candidates[1][kept.indices]).all()
    if multiclass or voting == 0 or method == "none":
        np.testing.assert_array_equal(kept.segments, candidates[0][kept.indices])
    short = batched_nms(*candidates, **SOFT, method=method, multiclass=multiclass, voting_thresh=voting)
    for part, whole in zip(short, kept[:3], strict=True):
        np.testing.assert_array_equal(part, whole)


@given(candidate_sets(), st.sampled_from(["soft", "hard"]), st.booleans())
def test_the_distance_of_centres_only_ever_spares(candidates: Arrays, method: Any, multiclass: bool) -> None:
    settings = {**SOFT, "min_score": 0.0, "iou_threshold": 0.5, "method": method, "multiclass": multiclass}
    plain, spared = (nms(*candidates, **settings, use_diou=use_diou) for use_diou in (False, True))
    if method == "soft":  # everything stays, and the best of all keeps its score
        assert sorted(plain.indices) == sorted(spared.indices)
        assert plain.scores[:1].tolist() == spared.scores[:1].tolist()
    else:
        assert plain.indices[:1].tolist() == spared.indices[:1].tolist()


@given(candidate_sets(ties=False), st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter_without_ties(candidates: Arrays, random: Any) -> None:
    order = list(range(len(candidates[1])))
    random.shuffle(order)
    settings = {**SOFT, "min_score": 0.0}
    found = batched_nms(*candidates, **settings)
    shuffled = batched_nms(*(part[order] for part in candidates), **settings)
    assert_same(found, shuffled, 1e-6)


THREE = arrays([[0, 10], [1, 10], [20, 30]], [0.9, 0.8, 0.7], [0, 0, 1])


@pytest.mark.parametrize(
    ("label", "changes", "starts"),
    [
        ("soft keeps all, lowers the second", {}, [0, 20, 1]),
        ("hard removes the second", {"method": "hard"}, [0, 20]),
        ("hard, threshold never reached", {"method": "hard", "iou_threshold": 0.95}, [0, 1, 20]),
        ("hard, score at min_score goes", {"method": "hard", "iou_threshold": 1.0, "min_score": 0.8}, [0]),
        ("none only sorts", {"method": "none"}, [0, 1, 20]),
        ("none drops low scores", {"method": "none", "min_score": 0.75}, [0, 1]),
        ("none cuts", {"method": "none", "max_seg_num": 2}, [0, 1]),
        ("soft, floor above the second's new score", {"min_score": 0.5}, [0, 20]),
        ("soft, the best of each class stays below the floor", {"min_score": 0.95}, [0, 20]),
        ("width per class", {"class_sigma": np.array([1e9, 0.5])}, [0, 1, 20]),
        ("keep nothing", {"max_seg_num": 0}, []),
    ],
)
def test_settings(label: str, changes: dict[str, Any], starts: list[float]) -> None:
    assert batched_nms(*THREE, **{**SOFT, **changes})[0][:, 0].tolist() == starts


@pytest.mark.parametrize("method", ["soft", "hard", "none"])
@pytest.mark.parametrize("multiclass", [True, False])
@pytest.mark.parametrize(
    ("label", "candidates", "number"),
    [
        ("nothing", arrays([], [], []), 0),
        ("one", arrays([[1, 2]], [0.5], [4]), 1),
        ("empty segments at one place", arrays([[1, 1], [1, 1]], [0.5, 0.4], [0, 0]), 2),
        ("a segment that ends before it starts", arrays([[2, 1], [0, 3]], [0.5, 0.4], [0, 0]), 2),
        ("label ids far apart", arrays([[0, 1], [5, 6]], [0.5, 0.4], [0, 2**40]), 2),
    ],
)
def test_edges(label: str, candidates: Arrays, number: int, method: Any, multiclass: bool) -> None:
    found = batched_nms(*candidates, **{**SOFT, "method": method, "multiclass": multiclass, "voting_thresh": 0.7})
    assert [len(part) for part in found] == [number] * 3
    assert found[0].shape == (number, 2)
    assert np.isfinite(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_voting_averages_neighbours() -> None:
    candidates = arrays([[0, 10], [2, 10], [50, 60]], [0.8, 0.4, 0.3], [0, 0, 0])
    found = batched_nms(*candidates, **SOFT, multiclass=False, voting_thresh=0.7)
    weights = np.array([0.8 * 1.0, 0.4 * 0.8])
    assert found[0][0, 0] == pytest.approx((weights * [0, 2]).sum() / weights.sum(), abs=1e-5)
    assert found[0][0, 1] == pytest.approx(10)
    assert found[0][1].tolist() == [50, 60]


def test_diou_spares_segments_with_another_centre() -> None:
    candidates = arrays([[0, 10], [0, 7], [1.5, 8.5]], [0.9, 0.8, 0.8], [0, 0, 0])
    settings = {**SOFT, "method": "hard", "iou_threshold": 0.69}
    assert len(batched_nms(*candidates, **settings)[1]) == 1
    kept = batched_nms(*candidates, **settings, use_diou=True)[0].tolist()
    assert kept == [[0, 10], [0, 7]]  # overlap 0.7 less (1.5 / 10)^2; the third has the same centre as the first


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown NMS method 'softer'"):
        batched_nms(*THREE, **SOFT, method="softer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="class_sigma"):
        batched_nms(*THREE, **SOFT, multiclass=False, class_sigma=np.ones(2))
