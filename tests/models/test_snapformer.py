"""What only point events have: events that share a grid step, sub-step times, padding in the loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eventide.models import Architecture, build
from eventide.types import PyramidOutput

from .making import CHANNELS, CLASSES, small_config

EVENTS: list[tuple[str, list[tuple[float, int]]]] = [
    ("apart", [(4.0, 0), (20.3, 1), (40.8, 2)]),
    ("two classes in one step", [(20.1, 0), (20.4, 1)]),
    ("one class two steps apart", [(20.0, 0), (22.0, 0)]),
    ("at both ends", [(-0.4, 0), (47.4, 0)]),
]


def overfit(times: list[tuple[float, int]], steps: int = 250) -> tuple[Architecture, Tensor]:
    """A small model that has learned one recording with events (time, label id) by heart, and its features."""
    torch.manual_seed(0)
    config = small_config(
        "SnapFormer", model__backbone__n_embd=32, train_cfg__init_loss_norm=4.0, model__heatmap__offset_weight=1.0
    )
    architecture = build(config)
    features = torch.randn(1, CHANNELS, 48)
    events = torch.tensor([[[time, time] for time, _ in times]])
    label_ids = torch.tensor([[label for _, label in times]])
    optimizer = torch.optim.AdamW(architecture.detector.parameters(), lr=3e-3, weight_decay=0.0)
    architecture.detector.train()
    architecture.criterion.train()
    for _ in range(steps):
        optimizer.zero_grad()
        architecture.criterion(architecture.detector(features), events, label_ids)["final_loss"].backward()
        optimizer.step()
    architecture.detector.eval()
    return architecture, features


@pytest.mark.slow
@pytest.mark.parametrize("times", [case[1] for case in EVENTS], ids=[case[0] for case in EVENTS])
def test_finds_exactly_the_events(times: list[tuple[float, int]]) -> None:
    architecture, features = overfit(times)
    with torch.no_grad():
        found = architecture.decoder(architecture.detector(features))[0]
    sure = found.take(found.scores > 0.3)
    ours = sorted((float(time), int(label)) for (time, _), label in zip(sure.segments, sure.label_ids, strict=True))
    assert [label for _, label in ours] == [label for _, label in times]
    assert [time for time, _ in ours] == pytest.approx([time for time, _ in times], abs=0.1)


def output_of(logits: Tensor, mask: Tensor | None = None) -> PyramidOutput:
    """(B, T, classes) logits, all offsets 0."""
    mask = torch.ones(logits.shape[:2], dtype=torch.bool) if mask is None else mask
    return PyramidOutput([logits], [torch.zeros_like(logits)], [mask])


def test_padding_is_no_part_of_the_loss() -> None:
    criterion = build(small_config("SnapFormer")).criterion.eval()
    logits = torch.randn(1, 10, CLASSES)
    rows, label_ids = torch.tensor([[[3.0, 3.0], [9.8, 9.8]]]), torch.tensor([[1, 0]])
    alone = criterion(output_of(logits), rows, label_ids)
    padded = torch.cat((logits, torch.full((1, 5, CLASSES), 9.0)), dim=1)
    mask = torch.arange(15)[None] < 10
    among = criterion(output_of(padded, mask), rows, label_ids)
    for name, value in alone.items():
        torch.testing.assert_close(among[name], value, msg=name)


def test_no_event_still_pushes_scores_down() -> None:
    criterion = build(small_config("SnapFormer")).criterion.train()
    logits = torch.zeros(1, 10, CLASSES, requires_grad=True)
    losses = criterion(output_of(logits), torch.zeros(1, 1, 2), torch.tensor([[-1]]))
    losses["final_loss"].backward()
    assert losses["num_positives"] == 0
    assert logits.grad is not None
    assert (logits.grad > 0).all()


@pytest.mark.parametrize(
    ("scores", "min_score", "topk", "expected"),
    [
        pytest.param([0.9, 0.1, 0.8, 0.1, 0.7], 0.05, 10, [0, 2, 4], id="all peaks"),
        pytest.param([0.9, 0.1, 0.8, 0.1, 0.7], 0.05, 2, [0, 2], id="the best two"),
        pytest.param([0.9, 0.1, 0.8, 0.1, 0.7], 0.85, 10, [0, 2], id="above a score"),
        pytest.param([0.1, 0.1, 0.1], 0.5, 10, [], id="none"),
    ],
)
def test_decoder(scores: list[float], min_score: float, topk: int, expected: list[int]) -> None:
    config = small_config("SnapFormer", test_cfg__pre_nms_thresh=min_score, test_cfg__pre_nms_topk=topk)
    logits = torch.full((1, len(scores), CLASSES), -20.0)
    logits[0, :, 1] = torch.tensor(scores).logit()
    found = build(config).decoder(output_of(logits))[0]
    assert found.segments[:, 0].tolist() == expected
    assert found.segments[:, 1].tolist() == expected
    assert set(found.label_ids.tolist()) <= {1}


def test_nothing_is_found_in_padding() -> None:
    logits = torch.full((1, 6, CLASSES), -20.0)
    logits[0, 4, 0] = 5.0
    mask = torch.tensor([[True] * 4 + [False] * 2])
    assert len(build(small_config("SnapFormer")).decoder(output_of(logits, mask))[0]) == 0


def test_a_window_reports_its_own_peaks_only() -> None:
    """Where its share ends is no peak: the neighbouring window, which sees the same values, reports the real one."""
    logits = torch.full((1, 6, CLASSES), -20.0)
    logits[0, :, 0] = torch.tensor([-5.0, 1.0, 2.0, 3.0, 4.0, 0.0])
    decoder = build(small_config("SnapFormer")).decoder
    found = []
    for reported in ([True] * 4 + [False] * 2, [False] * 4 + [True] * 2):
        output = output_of(logits)
        output.reported = [torch.tensor([reported])]
        found.append(decoder(output)[0].segments[:, 0].tolist())
    assert found == [[], [4.0]]
