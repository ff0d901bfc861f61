"""The losses that `train_cfg` chooses, in the criterion of every architecture of segments, and that each teaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from eventide.models import Architecture, build
from eventide.ops.losses import BOUNDARY_LOSSES, CLASS_LOSSES
from eventide.types import PyramidOutput

from .making import CHANNELS, pad_together, small_config
from .overfitting import average_precision, learn, worst_boundary
from .test_every_architecture_learns import LESSON, OF_SEGMENTS

SEGMENTS = torch.tensor([[[3.0, 9.0], [20.0, 27.0], [30.0, 52.0]], [[2.0, 30.0], [33.0, 41.0], [0.0, 0.0]]])
LABEL_IDS = torch.tensor([[0, 1, 2], [2, 1, -1]])


@pytest.fixture(params=OF_SEGMENTS)
def meta_arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def case(meta_arch: str, **train: Any) -> tuple[Architecture, PyramidOutput]:
    """A model that has learnt nothing, its criterion in evaluation mode, and its output for two sequences."""
    torch.manual_seed(0)
    config = small_config(meta_arch, **{f"train_cfg__{key}": value for key, value in train.items()})
    architecture = build(config)
    architecture.criterion.eval()
    return architecture, architecture.detector(*pad_together([torch.randn(CHANNELS, 60), torch.randn(CHANNELS, 45)]))


def with_sure_offsets(output: PyramidOutput, offset: float) -> PyramidOutput:
    """The same output with every offset the same number of strides."""
    output.offsets = [torch.full_like(x, offset) for x in output.offsets]
    return output


@pytest.mark.parametrize("reg_loss", BOUNDARY_LOSSES)
@pytest.mark.parametrize("cls_loss", CLASS_LOSSES)
def test_losses_are_finite_and_so_are_their_gradients(meta_arch: str, cls_loss: str, reg_loss: str) -> None:
    """With events, without any, and where every predicted segment has no length."""
    architecture, output = case(meta_arch, cls_loss=cls_loss, reg_loss=reg_loss)
    nothing = torch.full_like(LABEL_IDS, -1)
    for label_ids, offsets in ((LABEL_IDS, None), (nothing, None), (LABEL_IDS, 0.0), (LABEL_IDS, 1e6)):
        if offsets is not None:
            output = with_sure_offsets(output, offsets)
            output.offsets = [x.requires_grad_() for x in output.offsets]
        losses = architecture.criterion(output, SEGMENTS, label_ids)
        assert all(value.isfinite() for value in losses.values())
        inputs = [*output.logits, *output.offsets]
        gradients = torch.autograd.grad(losses["final_loss"], inputs, retain_graph=True, allow_unused=True)
        assert all(x is None or x.isfinite().all() for x in gradients)
        if (label_ids < 0).all():
            assert losses["reg_loss"] == 0


def test_the_choice_of_boundary_loss_shows(meta_arch: str) -> None:
    """On one output: the class loss stays; overlap alone is least, and each further thing adds to it."""
    losses = {}
    for reg_loss in BOUNDARY_LOSSES:
        architecture, output = case(meta_arch, reg_loss=reg_loss)
        losses[reg_loss] = architecture.criterion(with_sure_offsets(output, 0.7), SEGMENTS, LABEL_IDS)
    assert len({value["cls_loss"].item() for value in losses.values()}) == 1
    assert losses["giou"]["reg_loss"] < losses["diou"]["reg_loss"] < losses["eiou"]["reg_loss"]


def test_quality_is_the_target_of_a_positive(meta_arch: str) -> None:
    """The class loss of quality focal is least where scores equal the overlap of the segments, and no gradient of it
    moves the segments.
    """
    architecture, output = case(meta_arch, cls_loss="quality_focal")
    output = with_sure_offsets(output, 0.7)
    output.offsets = [x.requires_grad_() for x in output.offsets]

    def loss_of(logits: list[Tensor]) -> Tensor:
        output.logits = logits
        return architecture.criterion(output, SEGMENTS, LABEL_IDS)["cls_loss"]

    logits = [torch.zeros_like(x, requires_grad=True) for x in output.logits]
    assert all(x is None for x in torch.autograd.grad(loss_of(logits), output.offsets, allow_unused=True))
    optimizer = torch.optim.Adam(logits, lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        loss_of(logits).backward()
        optimizer.step()
    scores = torch.cat(logits, dim=1).detach().sigmoid()
    # a point at the centre of the first event of 6 steps (level 0, offsets 0.7 to both sides): IoU 1.4 / 6
    assert scores[0, 6, 0].item() == pytest.approx(1.4 / 6, abs=0.01)
    assert scores.max() < 0.9  # none of these segments fits as well


@pytest.mark.parametrize(("cls_loss", "reg_loss"), [("quality_focal", "giou"), ("quality_focal", "eiou")])
def test_no_wait_for_the_device(meta_arch: str, cls_loss: str, reg_loss: str) -> None:
    """Tensors on the meta device have no values: any step that reads one on the host raises."""
    architecture, _ = case(meta_arch, cls_loss=cls_loss, reg_loss=reg_loss)
    detector, criterion = architecture.detector.to("meta"), architecture.criterion.to("meta").train()
    output = detector(torch.empty(2, CHANNELS, 50, device="meta"))
    criterion(output, SEGMENTS.to("meta"), LABEL_IDS.to("meta"))["final_loss"].backward()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls_loss", "reg_loss"),
    [("focal", "giou"), ("focal", "eiou"), ("quality_focal", "diou"), ("quality_focal", "eiou")],
)
def test_one_recording_is_learned(meta_arch: str, cls_loss: str, reg_loss: str) -> None:
    changes = {"train_cfg__cls_loss": cls_loss, "train_cfg__reg_loss": reg_loss, "model__backbone__n_embd": 32}
    config = small_config(meta_arch, **changes)
    _, found = learn(config, LESSON)
    assert average_precision(config, LESSON, found) == 1.0
    assert worst_boundary(LESSON, config, found) < 0.1
