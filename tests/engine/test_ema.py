"""The weight average: decay, ramp, buffers, state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eventide.engine.ema import WeightAverage


def module() -> nn.BatchNorm1d:
    torch.manual_seed(0)
    made = nn.BatchNorm1d(3)
    nn.init.normal_(made.weight)
    return made


@pytest.mark.parametrize(
    ("label", "limit", "ramp", "expected"),
    [
        ("constant", 0.9, False, [0.9, 0.9, 0.9, 0.9]),
        ("ramp", 0.999, True, [1 / 10, 2 / 11, 3 / 12, 4 / 13]),
        ("ramp up to the limit", 0.2, True, [0.1, 2 / 11, 0.2, 0.2]),
        ("none", 0.0, True, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_decay_of_each_update(label: str, limit: float, ramp: bool, expected: list[float]) -> None:
    trained = module()
    average = WeightAverage(trained, limit, ramp)
    by_hand, decays = trained.weight.detach().double().clone(), []
    for _ in expected:
        with torch.no_grad():
            trained.weight.add_(torch.randn(3))
        decays.append(average.decay())
        average.update()
        by_hand = decays[-1] * by_hand + (1 - decays[-1]) * trained.weight.detach().double()
    assert decays == pytest.approx(expected)
    torch.testing.assert_close(average.module.weight.double(), by_hand, rtol=1e-6, atol=1e-6)


def test_long_ramp_ends_at_the_limit() -> None:
    average = WeightAverage(module(), 0.999, True)
    average.updates = 10_000
    assert average.decay() == 0.999


def test_buffers_are_copied_and_the_module_is_left_alone() -> None:
    trained = module()
    before = copy.deepcopy(trained.state_dict())
    average = WeightAverage(trained, 0.5, False)
    trained.running_mean.fill_(7.0)
    trained.num_batches_tracked.fill_(3)
    average.update()
    assert average.module.running_mean.tolist() == [7.0, 7.0, 7.0]
    assert average.module.num_batches_tracked == 3
    assert torch.equal(trained.weight, before["weight"])
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert not average.module.training


def test_state_goes_on_to_the_bit() -> None:
    trained = module()
    average = WeightAverage(trained, 0.999, True)
    for _ in range(3):
        with torch.no_grad():
            trained.weight.mul_(1.1)
        average.update()
    again = WeightAverage(trained, 0.999, True)
    again.load_state_dict(copy.deepcopy(average.state_dict()))
    with torch.no_grad():
        trained.weight.mul_(1.1)
    average.update()
    again.update()
    assert again.updates == 4
    assert torch.equal(again.module.weight, average.module.weight)
