"""ops/norm_relu.py: against layer norm, ReLU and mask one after the other, with gradients and mixed dtypes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.norm_relu import norm_relu

EPS = 1e-5
MASKS = {
    "no mask": None,
    "one mask for all": torch.arange(7)[None] < 5,
    "a mask each": torch.arange(7) < torch.tensor([[7], [3]]),
    "nothing kept": torch.zeros(1, 7, dtype=torch.bool),
}


def reference(x: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)
    out = ((x - mean) / (variance + EPS).sqrt() * weight + bias).clamp(min=0)
    return out if keep is None else torch.where(keep.unsqueeze(-1), out, 0.0)


def draw(channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, and the direction of a gradient."""
    generator = torch.Generator().manual_seed(channels)
    x, direction = torch.randn(2, 2, 7, channels, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(2, channels, generator=generator, dtype=torch.float64)
    return x, weight, bias, direction


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
@pytest.mark.parametrize("keep", MASKS.values(), ids=MASKS.keys())
def test_values_and_gradients(keep: Tensor | None, channels: int) -> None:
    x, weight, bias, direction = draw(channels)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    found, expected = norm_relu(x, weight, bias, EPS, keep), reference(x, weight, bias, keep)
    library = F.relu(F.layer_norm(x, [channels], weight, bias, EPS))
    torch.testing.assert_close(library if keep is None else library * keep.unsqueeze(-1), expected)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = [torch.autograd.grad(out, inputs, direction) for out in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("keep", MASKS.values(), ids=MASKS.keys())
def test_gradients_by_finite_differences(keep: Tensor | None) -> None:
    x, weight, bias, _ = draw(5)
    inputs = tuple(tensor.requires_grad_() for tensor in (x, weight, bias))
    assert torch.autograd.gradcheck(lambda x, weight, bias: norm_relu(x, weight, bias, EPS, keep), inputs)


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_that_are_wanted(needed: tuple[bool, bool, bool]) -> None:
    x, weight, bias = (tensor.requires_grad_(need) for tensor, need in zip(draw(5)[:3], needed, strict=True))
    norm_relu(x, weight, bias, EPS).sum().backward()
    assert tuple(tensor.grad is not None for tensor in (x, weight, bias)) == needed


def check_low_precision(device: str, dtype: torch.dtype, autocast: bool) -> None:
    x, weight, bias, direction = draw(16)
    keep = MASKS["a mask each"]
    assert keep is not None
    low = [x.to(device, dtype), weight.to(device).float(), bias.to(device).float()]
    full = [tensor.detach().to("cpu", torch.float64) for tensor in low]
    low, full = ([tensor.requires_grad_() for tensor in tensors] for tensors in (low, full))
    with torch.autocast(device, dtype, enabled=autocast):
        found = norm_relu(low[0], low[1], low[2], EPS, keep.to(device))
    expected = reference(full[0], full[1], full[2], keep)
    assert found.dtype == dtype
    torch.testing.assert_close(found.cpu().double(), expected, rtol=0.02, atol=0.02)
    gradients = torch.autograd.grad(found, low, direction.to(device, dtype))
    assert [gradient.dtype for gradient in gradients] == [dtype, torch.float32, torch.float32]
    for gradient, exact in zip(gradients, torch.autograd.grad(expected, full, direction), strict=True):
        assert (gradient.cpu().double() - exact).norm() <= 0.03 * exact.norm()


@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_input_with_float32_parameters(autocast: bool) -> None:
    check_low_precision("cpu", torch.bfloat16, autocast)


@pytest.mark.cuda
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_on_cuda(dtype: torch.dtype, autocast: bool) -> None:
    check_low_precision("cuda", dtype, autocast)
