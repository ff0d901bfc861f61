"""ops/winograd.py: minimal filtering against the direct convolution, values, gradients and rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops import winograd
from eventide.ops.winograd import conv3, conv3_transformed, transform_kernel

SHAPES = [(batch, inputs, outputs) for batch in (1, 3) for inputs, outputs in ((1, 1), (2, 5), (7, 3))]


def reference(x: Tensor, weight: Tensor) -> Tensor:
    """One output at a time: the sum over the three neighbours, zero outside."""
    out = x.new_zeros(x.shape[0], x.shape[1], weight.shape[0])
    for time in range(x.shape[1]):
        for tap in range(3):
            if 0 <= time + tap - 1 < x.shape[1]:
                out[:, time] += x[:, time + tap - 1] @ weight[:, :, tap].t()
    return out


def draw(
    batch: int, length: int, inputs: int, outputs: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(batch, length, inputs, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randn(outputs, inputs, 3, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("length", range(1, 10))
@pytest.mark.parametrize(("batch", "inputs", "outputs"), SHAPES)
def test_values(length: int, batch: int, inputs: int, outputs: int) -> None:
    x, weight = draw(batch, length, inputs, outputs)
    expected = reference(x, weight)
    torch.testing.assert_close(F.conv1d(x.transpose(1, 2), weight, padding=1).transpose(1, 2), expected)
    for found in (conv3(x, weight), conv3_transformed(x, transform_kernel(weight))):
        assert found.shape == (batch, length, outputs)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", range(1, 10))
def test_gradients(length: int) -> None:
    x, weight = (tensor.requires_grad_() for tensor in draw(2, length, 3, 2))
    assert torch.autograd.gradcheck(conv3, (x, weight))
    direction = torch.randn(2, length, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = torch.autograd.grad(conv3(x, weight), (x, weight), direction)
    expected = torch.autograd.grad(reference(x, weight), (x, weight), direction)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("label", "wanted"), [("input only", (True, False)), ("weight only", (False, True))])
def test_only_the_gradient_that_is_wanted(label: str, wanted: tuple[bool, bool]) -> None:
    x, weight = (tensor.requires_grad_(need) for tensor, need in zip(draw(2, 5, 3, 2), wanted, strict=True))
    conv3(x, weight).sum().backward()
    assert (x.grad is not None, weight.grad is not None) == wanted


@pytest.mark.parametrize("length", [6, 7])
def test_inputs_that_are_views(length: int) -> None:
    x, weight = draw(2, 2 * length, 4, 4)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)[:, ::2]
    mirrored = weight.flip(2).transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(conv3(turned, mirrored), reference(turned, mirrored), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("length", "channels"), [(33, 64), (64, 512)])
def test_float32_error_is_that_of_a_direct_sum(length: int, channels: int) -> None:
    x, weight = draw(2, length, channels, channels)
    exact = F.conv1d(x.transpose(1, 2), weight, padding=1).transpose(1, 2)
    direct = F.conv1d(x.float().transpose(1, 2), weight.float(), padding=1).transpose(1, 2)
    minimal = conv3(x.float(), weight.float())
    direct_error, minimal_error = ((found.double() - exact).square().mean().sqrt() for found in (direct, minimal))
    assert minimal_error <= 4 * direct_error + 1e-7 * exact.abs().max()


def test_second_derivatives_are_refused() -> None:
    x, weight = (tensor.requires_grad_() for tensor in draw(1, 4, 2, 2))
    (gradient,) = torch.autograd.grad(conv3(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("length", [255, 256, 257, 300, 511, 512, 513, 600])
def test_pieces_join_without_a_seam(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long sequences are computed in pieces of 256 positions or more; here none is longer."""
    monkeypatch.setattr(winograd, "CACHED_NUMBERS", 1)
    torch.manual_seed(0)
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    found = winograd.conv3(x, weight)
    expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight, padding=1).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), gradient),
        torch.autograd.grad(expected, (x, weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
