"""layers/regularisation.py: stochastic depth drops whole samples and keeps the mean."""

from __future__ import annotations

import pytest
import torch

from eventide.layers.regularisation import AffineDropPath, Scale

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
    torch.testing.assert_close(layer(x), 1e-4 * x)
    assert torch.equal(torch.get_rng_state(), state)  # nor any random number drawn


def test_scale_is_per_channel_and_learns() -> None:
    layer = AffineDropPath(2, 0.0)
    assert layer.scale.shape == (1, 2, 1)
    with torch.no_grad():
        layer.scale.copy_(torch.tensor([2.0, 3.0]).view(1, 2, 1))
    x = torch.ones(1, 3, 2)
    assert layer(x)[0, 0].tolist() == [2.0, 3.0]
    layer(x).sum().backward()
    assert layer.scale.grad is not None
    assert layer.scale.grad.flatten().tolist() == [3.0, 3.0]


def test_scale_starts_at_one() -> None:
    layer, x = Scale(), torch.randn(2, 3)
    assert torch.equal(layer(x), x)
    assert dict(layer.named_parameters()).keys() == {"scale"}
