"""Boundaries of the averaged model as part of the targets."""

from __future__ import annotations

import pytest
import torch

from eventide.models import BUILDERS, build
from eventide.types import PyramidOutput

from .making import CHANNELS, build_random, small_config

SEGMENT_MODELS = sorted(name for name in BUILDERS if small_config(name).dataset.events == "segments")
SEGMENTS, LABELS = torch.tensor([[[4.0, 9.5], [20.0, 33.0]]]), torch.tensor([[0, 1]])


def outputs(name: str) -> tuple[PyramidOutput, PyramidOutput]:
    """What two models with different weights say of one recording."""
    features = torch.randn(1, CHANNELS, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, other = (build_random(small_config(name), seed=seed).detector(features) for seed in (0, 1))
    return ours, other


@pytest.mark.parametrize("cls_loss", ["focal", "quality_focal"])
@pytest.mark.parametrize("name", SEGMENT_MODELS)
def test_boundary_targets_move_towards_it_and_class_targets_do_not(name: str, cls_loss: str) -> None:
    criterion = build(small_config(name, train_cfg__cls_loss=cls_loss)).criterion.eval()
    ours, other = outputs(name)
    alone = criterion(ours, SEGMENTS, LABELS)
    none, some, most = (criterion(ours, SEGMENTS, LABELS, other, share) for share in (0.0, 0.5, 0.99))
    torch.testing.assert_close(none["reg_loss"], alone["reg_loss"])
    assert len({round(float(losses["reg_loss"]), 6) for losses in (alone, some, most)}) == 3
    for losses in (none, some, most):
        torch.testing.assert_close(losses["cls_loss"], alone["cls_loss"])


@pytest.mark.parametrize("name", SEGMENT_MODELS)
def test_a_teacher_that_agrees_leaves_nothing_of_the_boundary_to_learn(name: str) -> None:
    """With the model's own output as its teacher the overlap is nearly whole, whatever the labels say."""
    changes = {"model__dfl_weight": 0.0} if name == "TBTFormer" else {}
    criterion, (ours, _) = build(small_config(name, **changes)).criterion.eval(), outputs(name)
    alone = criterion(ours, SEGMENTS, LABELS)["reg_loss"]
    agreed = criterion(ours, SEGMENTS, LABELS, ours, 0.999)["reg_loss"]
    assert agreed < 0.05 * alone


def test_without_averaged_weights_there_is_no_teacher() -> None:
    assert small_config("TBTFormer", train_cfg__ema_decay=0.0).train_cfg.teacher_share == 0


def test_who_learns_from_it_by_default() -> None:
    shares = {name: small_config(name).train_cfg.teacher_share for name in BUILDERS}
    assert shares == {"LocPointTransformer": 0.0, "SnapFormer": 0.0, "TBTFormer": 0.7}
