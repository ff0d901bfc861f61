"""ops/conv_by_rows.py: one product of rows of neighbours against the direct convolution, and its rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.conv_by_rows import as_matrix, convolve_rows


def draw(batch: int, length: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn(batch, length, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randn(outputs, inputs, 3, generator=generator, dtype=torch.float64)


def direct(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv1d(x.transpose(1, 2), weight, padding=1).transpose(1, 2)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 5), (7, 3)])
def test_values(length: int, batch: int, inputs: int, outputs: int) -> None:
    x, weight = draw(batch, length, inputs, outputs)
    torch.testing.assert_close(convolve_rows(x, as_matrix(weight, x.dtype)), direct(x, weight))


def test_inputs_that_are_views() -> None:
    x, weight = draw(2, 12, 4, 4)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)[:, ::2]
    mirrored = weight.flip(2).transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(convolve_rows(turned, as_matrix(mirrored, x.dtype)), direct(turned, mirrored))


@pytest.mark.parametrize(("batch", "length", "channels"), [(1, 33, 64), (4, 64, 512)])
def test_bfloat16_is_as_exact_as_the_vendors(batch: int, length: int, channels: int) -> None:
    x, weight = (tensor.bfloat16() for tensor in draw(batch, length, channels, channels))
    exact, vendor = direct(x.double(), weight.double()), direct(x, weight)
    found = convolve_rows(x, as_matrix(weight.float(), torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert (found - exact).norm() <= 1.1 * (vendor - exact).norm()
