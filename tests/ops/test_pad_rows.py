"""ops/pad_rows.py: the same as PyTorch's padding, with gradients and without."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eventide.ops.pad_rows import pad_rows


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 3), (2, 1)])
@pytest.mark.parametrize("shape", [(1, 2), (4, 3), (2, 5, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_against_the_library(
    shape: tuple[int, ...], before: int, after: int, with_gradient: bool, dtype: torch.dtype
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_(with_gradient)
    with torch.set_grad_enabled(with_gradient):
        found = pad_rows(x, before, after)
    assert torch.equal(found, F.pad(x, (0, 0, before, after)))
    assert found.requires_grad == with_gradient


def test_of_a_view() -> None:
    x = torch.arange(24.0).view(2, 3, 4).transpose(0, 1)[..., ::2]
    with torch.no_grad():
        assert torch.equal(pad_rows(x, 1, 1), F.pad(x, (0, 0, 1, 1)))
