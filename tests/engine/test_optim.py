"""Which parameters decay, and the gradient norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eventide.config import OptimConfig
from eventide.engine.optim import build_optimizer, decay_groups, gradient_norm, scale_gradients, set_learning_rate
from eventide.models import build
from eventide.types import EventideError
from tests.engine.making import tiny_config


class ChannelNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, 3, 1)), nn.Parameter(torch.zeros(1, 3, 1))


class Everything(nn.Module):
    """One parameter of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv, self.norm = nn.Linear(2, 3), nn.Conv1d(3, 3, 3), ChannelNorm()
        self.group, self.table = nn.GroupNorm(1, 3), nn.Embedding(4, 3)
        self.scale, self.rel_pe = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(1, 2, 5))


def test_decay_acts_on_the_weights_of_linear_maps_and_convolutions_only() -> None:
    decayed, undecayed = decay_groups(Everything())
    assert set(decayed) == {"linear.weight", "conv.weight"}
    assert set(undecayed) == {
        "linear.bias",
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "group.weight",
        "group.bias",
        "table.weight",
        "scale",
        "rel_pe",
    }


def test_a_parameter_without_a_rule_is_an_error() -> None:
    module = Everything()
    module.mystery = nn.Parameter(torch.zeros(2))
    with pytest.raises(EventideError, match=r"no weight decay rule for mystery \(in a Everything\)"):
        decay_groups(module)


def test_shared_and_frozen_parameters() -> None:
    module = Everything()
    module.again = module.linear
    module.conv.weight.requires_grad_(False)
    decayed, _ = decay_groups(module)
    assert set(decayed) == {"linear.weight"}


@pytest.mark.parametrize("backbone", ["conv", "convTransformer"])
@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_every_parameter_of_a_model_is_in_exactly_one_group(tmp_path: object, backbone: str, kind: str) -> None:
    detector = build(tiny_config(tmp_path, model={"backbone_type": backbone})).detector  # type: ignore[arg-type]
    optimizer = build_optimizer(OptimConfig.model_validate({"type": kind, "weight_decay": 0.1}), detector)
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(grouped) == len({id(parameter) for parameter in grouped})
    assert {id(parameter) for parameter in grouped} == {id(parameter) for parameter in detector.parameters()}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_gradient_norm_and_scaling_are_those_of_torch() -> None:
    torch.manual_seed(0)
    module = Everything()
    optimizer = build_optimizer(OptimConfig(), module)
    for parameter in list(module.parameters())[:-1]:  # one has no gradient
        parameter.grad = torch.randn_like(parameter)
    expected = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()
    torch.testing.assert_close(gradient_norm(optimizer), expected)
    scale_gradients(optimizer, 0.5)
    torch.testing.assert_close(gradient_norm(optimizer), 0.5 * expected)


def test_norm_without_gradients_is_zero() -> None:
    assert gradient_norm(build_optimizer(OptimConfig(), Everything())) == 0


def test_a_gradient_that_is_not_finite_shows_in_the_norm() -> None:
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(OptimConfig(), module)
    for value in (float("nan"), float("inf")):
        module.weight.grad = torch.tensor([[1.0, value], [0.0, 0.0]])
        assert not torch.isfinite(gradient_norm(optimizer))


def test_one_step_of_adamw_is_the_textbook_one() -> None:
    """Weight decay first, then the sign of the gradient times the rate (bias correction makes the first step so)."""
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, 2.0)
    nn.init.constant_(module.bias, 2.0)
    optimizer = build_optimizer(OptimConfig.model_validate({"weight_decay": 0.5}), module)
    module.weight.grad, module.bias.grad = torch.tensor([[3.0]]), torch.tensor([-3.0])
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    assert module.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)
    assert module.bias.item() == pytest.approx(2.0 + 0.1)
