"""ops/decode.py: which candidates one level gives, and where they lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.ops.decode import class_scores, decode_level


def logits_of(scores: list[list[float]]) -> Tensor:
    return torch.logit(torch.tensor(scores, dtype=torch.float64))


def decode(
    scores: list[list[float]],
    offsets: list[list[float]] | None = None,
    mask: list[bool] | None = None,
    stride: int = 1,
    min_score: float = 0.0,
    topk: int = 100,
    min_length: float = 0.0,
) -> tuple[list[list[float]], list[float], list[int]]:
    length = len(scores)
    segments, found, label_ids, _ = decode_level(
        logits_of(scores),
        torch.tensor(offsets) if offsets is not None else torch.ones(length, 2),
        torch.tensor(mask) if mask is not None else torch.ones(length, dtype=torch.bool),
        stride,
        min_score=min_score,
        topk=topk,
        min_length=min_length,
    )
    assert segments.shape == (len(found), 2)
    assert (segments.dtype, found.dtype, label_ids.dtype) == (torch.float32, torch.float32, torch.int64)
    return segments.tolist(), [round(score, 4) for score in found.tolist()], label_ids.tolist()


def test_segments_scores_and_classes() -> None:
    segments, scores, label_ids = decode([[0.2, 0.7], [0.9, 0.1]], [[1.0, 2.0], [0.5, 0.25]], stride=4)
    assert scores == [0.9, 0.7, 0.2, 0.1]
    assert label_ids == [0, 1, 0, 1]
    assert segments == [[2.0, 5.0], [-4.0, 8.0], [-4.0, 8.0], [2.0, 5.0]]


@pytest.mark.parametrize(
    ("label", "options", "expected"),
    [
        ("all", {}, [0.8, 0.5, 0.2]),
        ("score equal to the threshold is not above it", {"min_score": 0.5}, [0.8]),
        ("just above the threshold", {"min_score": 0.4999}, [0.8, 0.5]),
        ("threshold above all", {"min_score": 0.9}, []),
        ("best two", {"topk": 2}, [0.8, 0.5]),
        ("none wanted", {"topk": 0}, []),
        ("more wanted than there are", {"topk": 4}, [0.8, 0.5, 0.2]),
        ("masked", {"mask": [True, False, True]}, [0.5, 0.2]),
        ("masked counts as score 0, never above 0", {"mask": [False, False, False]}, []),
        ("length equal to the bound is not above it", {"min_length": 2.0}, []),
        ("length above the bound", {"min_length": 1.99}, [0.8, 0.5, 0.2]),
        ("no length", {"offsets": [[0.0, 0.0], [1.0, 1.0], [0.0, 0.5]]}, [0.8, 0.2]),
        ("length is in grid units", {"min_length": 2.0, "stride": 2}, [0.8, 0.5, 0.2]),
        ("best are chosen before the short are dropped", {"topk": 1, "offsets": [[1, 1], [0, 0], [1, 1.0]]}, []),
    ],
)
def test_what_is_kept(label: str, options: dict, expected: list[float]) -> None:
    assert decode([[0.5], [0.8], [0.2]], **options)[1] == expected


@pytest.mark.parametrize("topk", [1, 3, 4])
def test_ties_at_the_cut(topk: int) -> None:
    segments, scores, _ = decode([[0.5], [0.7], [0.5], [0.5]], topk=topk)
    assert scores == [0.7, 0.5, 0.5, 0.5][:topk]
    assert len({start for start, _ in segments}) == topk  # never one point twice


@pytest.mark.parametrize(("length", "classes"), [(0, 2), (3, 0)])
def test_empty(length: int, classes: int) -> None:
    segments, scores, label_ids, _ = decode_level(
        torch.zeros(length, classes), torch.ones(length, 2), torch.ones(length, dtype=torch.bool), 1,
        min_score=0.0, topk=5, min_length=0.0,
    )  # fmt: skip
    assert segments.shape == (0, 2)
    assert len(scores) == len(label_ids) == 0


def test_low_precision_is_decoded_in_float32() -> None:
    logits, offsets = torch.zeros(400, 1, dtype=torch.bfloat16), torch.ones(400, 2, dtype=torch.bfloat16)
    segments, scores, *_ = decode_level(
        logits, offsets, torch.ones(400, dtype=torch.bool), 1, min_score=0.1, topk=400, min_length=0.0
    )
    assert (segments.dtype, scores.dtype) == (torch.float32, torch.float32)
    assert sorted(segments[:, 0].tolist()) == [float(position - 1) for position in range(400)]


def test_temperature_divides_the_logits() -> None:
    logits = torch.linspace(-20, 20, 2001)
    assert torch.equal(class_scores(logits), logits.sigmoid())
    assert torch.equal(class_scores(logits, 1), logits.sigmoid())
    assert torch.equal(class_scores(logits, 2.5), (logits / 2.5).sigmoid())


def test_temperature_changes_scores_before_the_threshold_and_no_order() -> None:
    logits, offsets, mask = torch.tensor([[-4.0, 3.0], [2.0, -1.0]]), torch.ones(2, 2), torch.ones(2, dtype=torch.bool)
    found = {
        t: decode_level(logits, offsets, mask, 1, min_score=0.1, topk=10, min_length=0.0, temperature=t)
        for t in (0.5, 1.0, 4.0)
    }
    assert {t: classes.tolist() for t, (_, _, classes, _) in found.items()} == {
        0.5: [1, 0, 1], 1.0: [1, 0, 1], 4.0: [1, 0, 1, 0],
    }  # fmt: skip
    assert found[4.0][1].tolist() == pytest.approx([1 / (1 + torch.e ** (-x / 4)) for x in (3, 2, -1, -4)])
