"""A linear map of each time step is the same by either way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eventide.ops import linear


@pytest.mark.parametrize("shape", [(0, 5, 6), (1, 1, 6), (2, 7, 6), (3, 300, 6), (9, 6)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("least", [1, 10_000], ids=["as convolution", "as product"])
def test_values_and_gradients(
    shape: tuple[int, ...], with_bias: bool, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "LEAST_ROWS", least)
    torch.manual_seed(0)
    x, weight = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in (shape, (4, 6)))
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True) if with_bias else None
    inputs = [x, weight, *([] if bias is None else [bias])]
    found, expected = linear.linear_over_time(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, inputs, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_view_that_is_not_contiguous_is_mapped_too() -> None:
    x, weight = torch.randn(2, 6, 700).transpose(1, 2), torch.randn(4, 6)
    torch.testing.assert_close(linear.linear_over_time(x, weight, None), F.linear(x, weight))
