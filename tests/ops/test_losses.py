"""ops/losses.py: values and gradients against the formulas in float64, and what extremes do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eventide.ops.losses import (
    BOUNDARY_LOSSES,
    CLASS_LOSSES,
    diou_loss,
    eiou_loss,
    giou_loss,
    quality_focal_loss,
    segment_iou,
    sigmoid_focal_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]


def reference_focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    p = torch.sigmoid(logits)
    correct = targets * p + (1 - targets) * (1 - p)
    return (alpha * targets + (1 - alpha) * (1 - targets)) * (1 - correct) ** gamma * reference_entropy(p, targets)


def reference_quality(logits: Tensor, targets: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    return (targets - p) ** 2 * reference_entropy(p, targets)


def reference_entropy(p: Tensor, targets: Tensor) -> Tensor:
    return -targets * torch.log(p) - (1 - targets) * torch.log(1 - p)


def reference_diou(offsets: Tensor, targets: Tensor) -> Tensor:
    iou, _, hull, centers, _ = compared(offsets, targets)
    return 1 - iou + (centers / hull) ** 2


def reference_giou(offsets: Tensor, targets: Tensor) -> Tensor:
    iou, union, hull, _, _ = compared(offsets, targets)
    return 1 - (iou - (hull - union) / hull)


def reference_eiou(offsets: Tensor, targets: Tensor) -> Tensor:
    iou, _, hull, centers, lengths = compared(offsets, targets)
    return 1 - iou + centers**2 / hull**2 + lengths**2 / hull**2


def compared(offsets: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Of the segments [-left, right] as such: IoU, union, hull, distance of centres, difference of lengths."""
    start, end, true_start, true_end = -offsets[..., 0], offsets[..., 1], -targets[..., 0], targets[..., 1]
    overlap = (torch.minimum(end, true_end) - torch.maximum(start, true_start)).clamp(min=0)
    union = (end - start) + (true_end - true_start) - overlap
    hull = torch.maximum(end, true_end) - torch.minimum(start, true_start)
    centers, lengths = (start + end) / 2 - (true_start + true_end) / 2, (end - start) - (true_end - true_start)
    return overlap / union, union, hull, centers, lengths


def gradient(loss: Loss, inputs: Tensor, targets: Tensor) -> Tensor:
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(loss(inputs, targets).sum(), inputs)[0]


GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.linspace(-8, 8, 65, dtype=torch.float64)[:, None].repeat(1, 4)
SOFT = torch.tensor([0.0, 1.0, 0.3, 0.9], dtype=torch.float64).expand_as(LOGITS)
OFFSETS = torch.rand(64, 2, generator=GENERATOR, dtype=torch.float64) * 5 + 0.1
TRUE_OFFSETS = torch.rand(64, 2, generator=GENERATOR, dtype=torch.float64) * 5 + 0.1
APART = torch.stack((-OFFSETS[:, 0], OFFSETS.sum(-1)), dim=-1)  # starts after the common point, often after the end
LOSSES = [
    ("focal", sigmoid_focal_loss, reference_focal, LOGITS, SOFT),
    ("quality focal", quality_focal_loss, reference_quality, LOGITS, SOFT),
    ("distance IoU", diou_loss, reference_diou, OFFSETS, TRUE_OFFSETS),
    ("generalised IoU", giou_loss, reference_giou, OFFSETS, TRUE_OFFSETS),
    ("efficient IoU", eiou_loss, reference_eiou, OFFSETS, TRUE_OFFSETS),
    ("distance IoU, apart", diou_loss, reference_diou, APART, TRUE_OFFSETS),
    ("generalised IoU, apart", giou_loss, reference_giou, APART, TRUE_OFFSETS),
    ("efficient IoU, apart", eiou_loss, reference_eiou, APART, TRUE_OFFSETS),
]
OF_SEGMENTS = pytest.mark.parametrize("loss", BOUNDARY_LOSSES.values(), ids=BOUNDARY_LOSSES)


@pytest.mark.parametrize(("label", "loss", "reference", "inputs", "targets"), LOSSES, ids=[case[0] for case in LOSSES])
def test_values_and_gradients(label: str, loss: Loss, reference: Loss, inputs: Tensor, targets: Tensor) -> None:
    """Gradients by differences, then float64 and float32 against the formula."""
    assert torch.autograd.gradcheck(loss, (inputs.clone().requires_grad_(), targets))
    torch.testing.assert_close(loss(inputs, targets), reference(inputs, targets))
    torch.testing.assert_close(gradient(loss, inputs, targets), gradient(reference, inputs, targets))
    torch.testing.assert_close(
        loss(inputs.float(), targets.float()).double(), reference(inputs, targets), rtol=1e-5, atol=1e-6
    )
    found = gradient(loss, inputs.float(), targets.float()).double()
    torch.testing.assert_close(found, gradient(reference, inputs, targets), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.0)])
def test_focal_parameters(alpha: float, gamma: float) -> None:
    found = sigmoid_focal_loss(LOGITS, SOFT, alpha, gamma)
    torch.testing.assert_close(found, reference_focal(LOGITS, SOFT, alpha, gamma), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("label", "logit", "target", "focal", "quality"),
    [
        ("right and sure", 100.0, 1.0, 0.0, 0.0),
        ("wrong and sure", -100.0, 1.0, 25.0, 100.0),
        ("rightly nothing", -100.0, 0.0, 0.0, 0.0),
        ("wrongly something", 100.0, 0.0, 75.0, 100.0),
        ("undecided", 0.0, 1.0, 0.25 * 0.25 * 0.6931472, 0.25 * 0.6931472),
        ("as sure as right", 0.0, 0.5, 0.5 * 0.25 * 0.6931472, 0.0),
    ],
)
def test_class_losses_by_hand(label: str, logit: float, target: float, focal: float, quality: float) -> None:
    logits, targets = torch.tensor([logit]), torch.tensor([target])
    for loss, expected in ((sigmoid_focal_loss, focal), (quality_focal_loss, quality)):
        assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-5, abs=1e-30)
        assert gradient(loss, logits, targets).isfinite().all()


@pytest.mark.parametrize("quality", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_quality_focal_loss_is_least_at_the_target(quality: float) -> None:
    probability = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    loss = quality_focal_loss(torch.logit(probability), torch.full_like(probability, quality))
    assert probability[loss.argmin()].item() == pytest.approx(quality, abs=0.0011)


SEGMENTS = [  # distances to start and end, predicted and true; IoU, and what each loss adds to 1 - IoU
    ("equal", [1.0, 2.0], [1.0, 2.0], 1.0, {"diou": 0.0, "giou": 0.0, "eiou": 0.0}),
    ("nested, same centre", [1.0, 1.0], [2.0, 2.0], 0.5, {"diou": 0.0, "giou": 0.0, "eiou": 0.25}),
    ("nested, same start", [1.0, 0.0], [1.0, 1.0], 0.5, {"diou": 0.0625, "giou": 0.0, "eiou": 0.0625 + 0.25}),
    ("one on each side", [1.0, 0.0], [0.0, 1.0], 0.0, {"diou": 0.25, "giou": 0.0, "eiou": 0.25}),
    (
        "one and a half apart",
        [-1.5, 2.5],
        [1.0, 0.0],
        0.0,
        {"diou": 0.51020408, "giou": 0.42857143, "eiou": 0.51020408},
    ),
    ("predicted without length", [0.0, 0.0], [1.0, 1.0], 0.0, {"diou": 0.0, "giou": 0.0, "eiou": 1.0}),
    ("both without length", [0.0, 0.0], [0.0, 0.0], 0.0, {"diou": 0.0, "giou": 0.0, "eiou": 0.0}),
    ("without length, apart", [-1.0, 1.0], [1.0, -1.0], 0.0, {"diou": 1.0, "giou": 1.0, "eiou": 1.0}),
    ("huge", [1e30, 1e30], [2e30, 2e30], 0.5, {"diou": 0.0, "giou": 0.0, "eiou": 0.25}),
    ("huge and tiny", [1e30, 1e30], [1e-30, 1e-30], 0.0, {"diou": 0.0, "giou": 0.0, "eiou": 1.0}),
    ("tiny", [1e-30, 1e-30], [1e-30, 1e-30], 0.0, {"diou": 0.0, "giou": 0.0, "eiou": 0.0}),
]


@pytest.mark.parametrize(("label", "offsets", "targets", "iou", "more"), SEGMENTS, ids=[case[0] for case in SEGMENTS])
def test_segments_by_hand(
    label: str, offsets: list[float], targets: list[float], iou: float, more: dict[str, float]
) -> None:
    found, true = torch.tensor([offsets]), torch.tensor([targets])
    assert segment_iou(found, true).item() == pytest.approx(iou, abs=1e-6)
    assert set(more) == set(BOUNDARY_LOSSES)
    for name, loss in BOUNDARY_LOSSES.items():
        for pair in ((found, true), (true, found)):
            assert loss(*pair).item() == pytest.approx(1 - iou + more[name], abs=1e-6), name
            assert gradient(loss, *pair).isfinite().all(), name


lengths = st.floats(0.01, 1000.0, allow_nan=False)
segments = st.tuples(lengths, lengths).map(lambda pair: torch.tensor([pair], dtype=torch.float64))
shifts = st.floats(-2000.0, 2000.0, allow_nan=False)


def moved(offsets: Tensor, by: float) -> Tensor:
    """The same segment that much later, whose common point may lie outside then."""
    return offsets + torch.tensor([-by, by], dtype=offsets.dtype)


@OF_SEGMENTS
@given(segments, segments, shifts, shifts, st.floats(0.01, 1000.0))
def test_laws(loss: Loss, first: Tensor, second: Tensor, by: float, both: float, scale: float) -> None:
    """Nothing at equality, else more; the same mirrored, exchanged, moved together, in another unit."""
    assert loss(moved(first, by), moved(first, by)).abs().item() < 1e-9
    pair = (moved(first, by), second)
    found = loss(*pair)
    assert found.item() >= 1 - segment_iou(*pair).item() - 1e-9
    for other in (
        tuple(x.flip(-1) for x in pair),
        (pair[1], pair[0]),
        tuple(moved(x, both) for x in pair),
        tuple(x * scale for x in pair),
    ):
        torch.testing.assert_close(loss(*other), found, rtol=1e-6, atol=1e-9)


@given(segments, segments, shifts)
def test_order_of_the_losses(first: Tensor, second: Tensor, by: float) -> None:
    """Each adds something, and none more than 1 per thing that it adds."""
    first = moved(first, by)
    without = 1 - segment_iou(first, second)
    diou, giou, eiou = (loss(first, second) for loss in (diou_loss, giou_loss, eiou_loss))
    slack = 1e-9
    assert without - slack <= giou <= 2 + slack
    assert without - slack <= diou <= 2 + slack
    assert diou - slack <= eiou <= 3 + slack


@given(segments, segments)
def test_around_a_common_point_the_generalised_iou_is_the_iou(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(giou_loss(first, second), 1 - segment_iou(first, second), rtol=0, atol=1e-9)


@OF_SEGMENTS
def test_apart_the_losses_still_pull(loss: Loss) -> None:
    """A prediction beyond the true end moves towards it: its start must come earlier."""
    found = gradient(loss, torch.tensor([[-3.0, 4.0]]), torch.tensor([[1.0, 1.0]]))
    assert found[0, 0] < 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_are_computed_in_float32_at_least(dtype: torch.dtype) -> None:
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    for kind in CLASS_LOSSES.values():
        assert kind.function(LOGITS.to(dtype), SOFT.to(dtype)).dtype == expected
    for loss in (*BOUNDARY_LOSSES.values(), segment_iou):
        assert loss(OFFSETS.to(dtype), TRUE_OFFSETS.to(dtype)).dtype == expected


def test_nothing_gives_nothing() -> None:
    for kind in CLASS_LOSSES.values():
        assert kind.function(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)
    for loss in (*BOUNDARY_LOSSES.values(), segment_iou):
        assert loss(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0,)
