"""layers/regularisation.py: stochastic depth drops whole samples and keeps the mean."""

from __future__ import annotations

import pytest
import torch

from eventide.layers.conv import Pointwise
from eventide.layers.regularisation import AffineDropPath, Scale, channel_scale

BATCH = 4000


def dropped(probability: float, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(seed)
    layer = AffineDropPath(2, probability, initial_scale=1.0).to(dtype).train()
    return layer(torch.ones(BATCH, 3, 2, dtype=dtype)).detach()


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_whole_samples_are_dropped_and_the_mean_stays(probability: float) -> None:
    out = dropped(probability)
    assert (out == out[:, :1, :1]).all()
    kept = out[:, 0, 0]
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)])
    deviation = (probability / (1 - probability) / BATCH) ** 0.5
    assert kept.mean().item() == pytest.approx(1.0, abs=5 * deviation)


def test_choices_follow_the_seed() -> None:
    assert torch.equal(dropped(0.5, seed=3), dropped(0.5, seed=3))
    assert not torch.equal(dropped(0.5, seed=3), dropped(0.5, seed=4))


@pytest.mark.parametrize(("label", "probability", "training"), [("evaluation", 0.5, False), ("never", 0.0, True)])
def test_nothing_is_dropped(label: str, probability: float, training: bool) -> None:
    layer = AffineDropPath(2, probability).train(training)
    x = torch.arange(12.0).reshape(2, 3, 2)
    state = torch.get_rng_state()
    assert torch.equal(layer(x), x)
    assert torch.equal(torch.get_rng_state(), state)  # nor any random number drawn


def test_scale_goes_into_the_linear_map_before_it_and_learns() -> None:
    torch.manual_seed(0)
    layer, linear = AffineDropPath(2, 0.0), Pointwise(3, 2)
    assert layer.scale.shape == (1, 2, 1)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, 3.0]).view(1, 2, 1))
        linear.bias.copy_(torch.tensor([0.5, -1.0]))
    x = torch.randn(1, 4, 3)
    torch.testing.assert_close(linear(x, channel_scale(layer)), linear(x) * torch.tensor([2.0, 3.0]))
    linear(x, channel_scale(layer)).sum().backward()
    assert layer.scale.grad is not None
    torch.testing.assert_close(layer.scale.grad.flatten(), linear(x).sum(dim=(0, 1)))


def test_no_scale_without_drop_path() -> None:
    assert channel_scale(torch.nn.Identity()) is None


def test_scale_starts_at_one() -> None:
    layer, x = Scale(), torch.randn(2, 3)
    assert torch.equal(layer(x), x)
    assert dict(layer.named_parameters()).keys() == {"scale"}
