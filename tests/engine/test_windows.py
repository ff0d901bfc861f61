"""Windows over long recordings: each point has one owner, and long windows give the numbers of one pass."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.config import ChunkConfig
from eventide.data.loader import collate
from eventide.engine.inference import Inference
from eventide.engine.predict import prepare_sample
from eventide.engine.windows import Window, plan_windows
from eventide.models import BUILDERS, build
from eventide.types import UsageError
from tests.engine.making import CHANNELS, tiny_config


@pytest.mark.parametrize(
    ("label", "total", "length", "overlap", "multiple", "expected"),
    [
        ("fits", 10, 10, 2, 1, [(0, 10, 0, 10)]),
        ("one vector", 1, 8, 4, 4, [(0, 1, 0, 1)]),
        ("two", 14, 10, 2, 2, [(0, 10, 0, 7), (4, 14, 7, 14)]),
        ("by steps", 24, 10, 2, 1, [(0, 10, 0, 9), (8, 18, 9, 16), (14, 24, 16, 24)]),
        ("last start is rounded up", 15, 10, 2, 4, [(0, 10, 0, 9), (8, 15, 9, 15)]),
        ("no overlap", 8, 4, 0, 4, [(0, 4, 0, 4), (4, 8, 4, 8)]),
    ],
)
def test_plans(
    label: str, total: int, length: int, overlap: int, multiple: int, expected: list[tuple[int, ...]]
) -> None:
    assert plan_windows(total, length, overlap, multiple) == [Window(*ends) for ends in expected]


def test_windows_that_cannot_move_are_refused() -> None:
    with pytest.raises(UsageError, match=r"length 10 less overlap 7 must be at least 4"):
        plan_windows(100, 10, 7, 4)


def points_of(window: Window, stride: int) -> int:
    return -(-(window.stop - window.start) // stride)


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 59), st.sampled_from([1, 2, 4, 8]))
def test_every_point_of_every_level_has_one_owner(total: int, length: int, overlap: int, multiple: int) -> None:
    if length - overlap < multiple:
        return
    windows = plan_windows(total, length, overlap, multiple)
    assert windows[0].start == 0
    assert windows[-1].stop == total
    for before, after in pairwise(windows):
        assert after.start % multiple == 0
        assert before.stop - after.start >= overlap
        assert after.start <= after.owned_from == before.owned_to <= before.stop
    for stride in (1, 2, 4, 8):
        if stride > multiple:
            continue
        owned = [
            window.start + stride * index
            for window in windows
            for index, mine in enumerate(
                window.owned(-(-(window.stop - window.start) // stride), stride, torch.device("cpu"))
            )
            if mine
        ]
        assert owned == list(range(0, total, stride))


@pytest.mark.parametrize("meta_arch", sorted(BUILDERS))
def test_windows_with_enough_context_give_the_numbers_of_one_pass(tmp_path: Path, meta_arch: str) -> None:
    config = tiny_config(tmp_path)
    config = config.model_copy(update={"model": config.model.model_copy(update={"meta_arch": meta_arch})}).resolve()
    torch.manual_seed(3)
    model = build(config)
    model.detector.eval()
    torch.manual_seed(4)
    sample = prepare_sample(torch.randn(500, CHANNELS), "long", config.dataset, 10.0, None)
    whole = Inference(model.detector, model.decoder, config, []).candidates(collate([sample]))[0]
    test_cfg = config.test_cfg.model_copy(update={"chunk": ChunkConfig(length=160, overlap=120), "batch_size": 3})
    config = config.model_copy(update={"test_cfg": test_cfg})
    parts = Inference(model.detector, model.decoder, config, []).candidates(collate([sample]))[0]
    assert len(parts.scores) == len(whole.scores) > 100
    for one in (whole, parts):
        order = np.lexsort((one.segments[:, 1], one.segments[:, 0], one.label_ids))
        one.segments, one.scores, one.label_ids = one.segments[order], one.scores[order], one.label_ids[order]
    np.testing.assert_allclose(parts.segments, whole.segments, atol=2e-4)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)
    assert (parts.label_ids == whole.label_ids).all()
