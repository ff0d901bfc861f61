"""ops/losses.py: values and gradients against the formulas in float64, and what extremes do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from eventide.ops.losses import diou_loss, sigmoid_focal_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def reference_focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    p = torch.sigmoid(logits)
    correct = targets * p + (1 - targets) * (1 - p)
    entropy = -targets * torch.log(p) - (1 - targets) * torch.log(1 - p)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * (1 - correct) ** gamma * entropy


def reference_diou(offsets: Tensor, targets: Tensor) -> Tensor:
    """Of the segments [-left, right] as such."""
    start, end, true_start, true_end = -offsets[..., 0], offsets[..., 1], -targets[..., 0], targets[..., 1]
    overlap = torch.minimum(end, true_end) - torch.maximum(start, true_start)
    union = (end - start) + (true_end - true_start) - overlap
    hull = torch.maximum(end, true_end) - torch.minimum(start, true_start)
    return 1 - overlap / union + (((start + end) - (true_start + true_end)) / 2 / hull) ** 2


def gradient(loss: Loss, inputs: Tensor, targets: Tensor) -> Tensor:
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(loss(inputs, targets).sum(), inputs)[0]


LOGITS = torch.linspace(-8, 8, 65, dtype=torch.float64)[:, None].repeat(1, 4)
SOFT = torch.tensor([0.0, 1.0, 0.3, 0.9], dtype=torch.float64).expand_as(LOGITS)
GENERATOR = torch.Generator().manual_seed(0)
OFFSETS = torch.rand(64, 2, generator=GENERATOR, dtype=torch.float64) * 5 + 0.1
TRUE_OFFSETS = torch.rand(64, 2, generator=GENERATOR, dtype=torch.float64) * 5 + 0.1


@pytest.mark.parametrize(
    ("label", "loss", "reference", "inputs", "targets"),
    [
        ("focal", sigmoid_focal_loss, reference_focal, LOGITS, SOFT),
        ("distance IoU", diou_loss, reference_diou, OFFSETS, TRUE_OFFSETS),
    ],
)
def test_values_and_gradients(label: str, loss: Loss, reference: Loss, inputs: Tensor, targets: Tensor) -> None:
    assert torch.autograd.gradcheck(reference, (inputs.clone().requires_grad_(), targets))
    torch.testing.assert_close(
        loss(inputs.float(), targets.float()).double(), reference(inputs, targets), rtol=1e-5, atol=1e-6
    )
    found = gradient(loss, inputs.float(), targets.float()).double()
    torch.testing.assert_close(found, gradient(reference, inputs, targets), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.0)])
def test_focal_parameters(alpha: float, gamma: float) -> None:
    found = sigmoid_focal_loss(LOGITS, SOFT, alpha, gamma).double()
    torch.testing.assert_close(found, reference_focal(LOGITS, SOFT, alpha, gamma), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("label", "logit", "target", "expected"),
    [
        ("right and sure", 100.0, 1.0, 0.0),
        ("wrong and sure", -100.0, 1.0, 25.0),
        ("rightly nothing", -100.0, 0.0, 0.0),
        ("wrongly something", 100.0, 0.0, 75.0),
        ("undecided", 0.0, 1.0, 0.25 * 0.25 * 0.6931472),
    ],
)
def test_focal_extremes(label: str, logit: float, target: float, expected: float) -> None:
    logits, targets = torch.tensor([logit]), torch.tensor([target])
    assert sigmoid_focal_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5, abs=1e-30)
    assert gradient(sigmoid_focal_loss, logits, targets).isfinite().all()


@pytest.mark.parametrize(
    ("label", "offsets", "targets", "expected"),
    [
        ("equal", [1.0, 2.0], [1.0, 2.0], 0.0),
        ("half as long, same centre", [1.0, 1.0], [2.0, 2.0], 0.5),
        ("half as long, same start", [1.0, 0.0], [1.0, 1.0], 0.5 + 0.0625),
        ("one on each side", [1.0, 0.0], [0.0, 1.0], 1.25),
        ("predicted without length", [0.0, 0.0], [1.0, 1.0], 1.0),
        ("both without length", [0.0, 0.0], [0.0, 0.0], 1.0),
    ],
)
def test_distance_iou_by_hand(label: str, offsets: list[float], targets: list[float], expected: float) -> None:
    found, true = torch.tensor([offsets]), torch.tensor([targets])
    assert diou_loss(found, true).item() == pytest.approx(expected, abs=1e-6)
    assert diou_loss(true, found).item() == pytest.approx(expected, abs=1e-6)
    assert gradient(diou_loss, found, true).isfinite().all()


def test_distance_iou_knows_no_scale() -> None:
    torch.testing.assert_close(diou_loss(1000 * OFFSETS, 1000 * TRUE_OFFSETS), diou_loss(OFFSETS, TRUE_OFFSETS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_losses_are_computed_in_float32(dtype: torch.dtype) -> None:
    assert sigmoid_focal_loss(LOGITS.to(dtype), SOFT.to(dtype)).dtype == torch.float32
    assert diou_loss(OFFSETS.to(dtype), TRUE_OFFSETS.to(dtype)).dtype == torch.float32


def test_nothing_gives_nothing() -> None:
    assert sigmoid_focal_loss(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)
    assert diou_loss(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0,)
