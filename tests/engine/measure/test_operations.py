"""Operations are those of a count by hand, on a device that computes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eventide.engine.measure.operations import count_operations, count_parameters, operations_done
from eventide.models import build
from tests.models.making import CHANNELS, CLASSES, small_config

WIDTH = 16
LENGTH = 48  # three levels: 48, 24, 12


def conv(length: int, inputs: int, outputs: int, kernel: int) -> int:
    """Two operations per multiplication."""
    return 2 * length * inputs * outputs * kernel


def convolutional_by_hand() -> int:
    """The small convolutional model: embedding, one block at full length, two that halve it, heads."""
    total = conv(LENGTH, CHANNELS, WIDTH, 3) + conv(LENGTH, WIDTH, WIDTH, 3)
    total += conv(LENGTH, WIDTH, 2 * WIDTH, 3) + conv(LENGTH, 2 * WIDTH, WIDTH, 3)
    for length in (LENGTH // 2, LENGTH // 4):
        total += conv(length, WIDTH, 2 * WIDTH, 3) + conv(length, 2 * WIDTH, WIDTH, 3) + conv(length, WIDTH, WIDTH, 1)
    joined = LENGTH + LENGTH // 2 + LENGTH // 4 + 3 + 1  # a zero after each level; an even number
    for outputs in (CLASSES, 2):
        total += 2 * conv(joined, WIDTH, WIDTH, 3) + conv(joined, WIDTH, outputs, 3)
    return total


def test_a_convolutional_model_by_hand() -> None:
    config = small_config(model__backbone_type="conv")
    found = count_operations(config, LENGTH)
    assert found.total == convolutional_by_hand()
    assert found.attention == found.products == 0


def test_training_is_three_times_less_the_gradient_of_the_features() -> None:
    config = small_config(model__backbone_type="conv")
    first = conv(LENGTH, CHANNELS, WIDTH, 3)
    expected = 3 * convolutional_by_hand() - first
    # the gradients of norms are sums, some of which are taken by narrow products
    assert expected <= count_operations(config, LENGTH, training=True).total < 1.02 * expected


@pytest.mark.parametrize("backbone", ["conv", "convTransformer", "convTransformerv2"])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_is_that_many_recordings(backbone: str, training: bool) -> None:
    config = small_config(model__backbone_type=backbone)
    one, three = (count_operations(config, LENGTH, batch, training).total for batch in (1, 3))
    assert three == 3 * one


@pytest.mark.parametrize("fused", [False, True])
def test_full_attention_by_hand(fused: bool) -> None:
    v2: dict[str, Any] = {"model__backbone_type": "convTransformerv2", "model__backbone__use_flash_attn": fused}
    config = small_config(model__backbone__mha_win_size=-1, **v2)
    found = count_operations(config, LENGTH)
    pairs = LENGTH**2 + (LENGTH // 2) ** 2 + (LENGTH // 4) ** 2  # one block each
    assert found.products == 2 * 2 * pairs * WIDTH
    maps = sum(4 * conv(length, WIDTH, WIDTH, 1) for length in (LENGTH, LENGTH // 2, LENGTH // 4))
    depthwise = sum(3 * conv(length, 1, WIDTH, 3) for length in (LENGTH, LENGTH // 2, LENGTH // 4))
    assert found.attention == found.products + maps + depthwise
    assert 0 < found.attention < found.total


def test_training_counts_grouped_convolutions_as_grouped() -> None:
    config = small_config(model__backbone__mha_win_size=-1)
    forward, both = count_operations(config, LENGTH), count_operations(config, LENGTH, training=True)
    # depth-wise convolutions run again in the backward pass, nothing else does
    assert 3 * forward.attention <= both.attention < 3.2 * forward.attention


def test_windows_make_it_linear_and_full_attention_does_not() -> None:
    windows, full = small_config(), small_config(model__backbone__mha_win_size=-1)
    assert count_operations(windows, 4096).total / count_operations(windows, 1024).total == pytest.approx(4, rel=0.02)
    assert count_operations(full, 4096).total / count_operations(full, 1024).total > 10


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("v1", {}),
        ("streams", {"dataset__input_dim": [CHANNELS - 5, 5], "model__backbone__n_embd": [10, 6]}),
        ("v2", {"model__backbone_type": "convTransformerv2"}),
        ("positions", {"model__backbone__use_abs_pe": True}),
        ("published padding", {"model__backbone__padding": "published"}),
    ],
)
def test_every_kind_can_be_counted(label: str, changes: dict[str, Any]) -> None:
    config = small_config(**changes)
    for length in (1, 7, LENGTH):
        assert count_operations(config, length).total > 0
        assert count_operations(config, length, 2, training=True).total > 0


def test_parameters_are_those_of_the_model() -> None:
    detector = build(small_config()).detector
    assert count_parameters(detector) == sum(tensor.numel() for tensor in detector.parameters())
    assert count_parameters(torch.nn.Linear(3, 4)) == 16


def test_operations_done() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert operations_done(lambda: a @ b) == 2 * 3 * 4 * 5
    assert operations_done(lambda: a + a) == 0
