"""layers/conv.py: every way a convolution may run gives the same result; pooling on a canvas."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.layers.conv import (
    LEAST_CHANNELS,
    LEAST_ROWS,
    Conv,
    Pointwise,
    conv_over_time,
    max_pool_over_time,
    narrow_conv_over_time,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, groups: int = 1) -> Tensor:
    out = F.conv1d(x.transpose(1, 2), weight, bias, stride, weight.shape[-1] // 2, 1, groups)
    return out.transpose(1, 2)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("length", "outputs"), [(1, 1), (2, 3), (9, 1), (10, 2)])
def test_narrow_convolution(length: int, outputs: int, kernel: int, with_bias: bool) -> None:
    x, weight = draw(2, length, 6).requires_grad_(), draw(outputs, 6, kernel).requires_grad_()
    bias = draw(outputs).requires_grad_() if with_bias else None
    found, expected = narrow_conv_over_time(x, weight, bias), reference(x, weight, bias)
    torch.testing.assert_close(found, expected)
    direction = draw(*expected.shape, seed=1)
    gradients = [torch.autograd.grad(out, (x, weight), direction) for out in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 1), (3, 2, 6), (5, 4, 1), (1, 2, 1), (3, 1, 6)])
def test_plain_convolution(length: int, kernel: int, stride: int, groups: int) -> None:
    x, weight, bias = draw(2, length, 6), draw(6, 6 // groups, kernel), draw(6)
    found = conv_over_time(x, weight, bias, stride, groups)
    assert found.shape == (2, -(-length // stride), 6)
    torch.testing.assert_close(found, reference(x, weight, bias, stride, groups))


WIDE = LEAST_CHANNELS
LAYERS = {
    "minimal filtering": lambda: Conv(WIDE, WIDE, 3),
    "minimal filtering without bias": lambda: Conv(WIDE, WIDE, 3, bias=False),
    "narrow": lambda: Conv(WIDE, 2, 3),
    "depth-wise": lambda: Conv(WIDE, WIDE, 3, 1, WIDE),
    "with a stride": lambda: Conv(WIDE, WIDE, 3, 2),
    "kernel 1": lambda: Conv(WIDE, WIDE, 1),
    "kernel 5": lambda: Conv(WIDE, WIDE, 5),
}


@pytest.mark.parametrize("mode", ["training", "evaluation", "inference mode"])
@pytest.mark.parametrize("length", [LEAST_ROWS // 2 - 1, LEAST_ROWS // 2, LEAST_ROWS // 2 + 1])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_layer_equals_the_convolution(make: Callable[[], Conv], length: int, mode: str) -> None:
    torch.manual_seed(0)
    layer = make().double().train(mode == "training")
    x = draw(2, length, WIDE)
    expected = reference(x, layer.conv.weight, layer.conv.bias, layer.stride, layer.groups)
    with torch.inference_mode(mode == "inference mode"), torch.set_grad_enabled(mode == "training"):
        for _ in range(2):  # the second time with a kept kernel
            torch.testing.assert_close(layer(x), expected)


def in_place(layer: Conv) -> None:
    with torch.no_grad():
        layer.conv.weight.mul_(2.0)


CHANGES: dict[str, Callable[[Conv], object]] = {
    "in place": in_place,
    "loaded": lambda layer: layer.load_state_dict({k: 2 * v for k, v in layer.state_dict().items()}),
    "another tensor": lambda layer: setattr(layer.conv.weight, "data", 2 * layer.conv.weight.data),
    "another parameter": lambda layer: setattr(layer.conv, "weight", torch.nn.Parameter(2 * layer.conv.weight.data)),
}


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_kept_kernel_follows_its_weight(change: Callable[[Conv], object], amp: bool) -> None:
    torch.manual_seed(0)
    layer = Conv(WIDE, WIDE, 3, bias=False).eval()
    x = draw(1, LEAST_ROWS, WIDE).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        before = layer(x)
    copied = deepcopy(layer)
    change(layer)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        torch.testing.assert_close(layer(x), 2 * before)
        torch.testing.assert_close(copied(x), before)


def test_a_kept_kernel_is_no_part_of_the_model_file() -> None:
    layer = Conv(WIDE, WIDE, 3).eval()
    with torch.no_grad():
        layer(draw(1, LEAST_ROWS, WIDE).float())
    assert list(layer.state_dict()) == ["conv.weight", "conv.bias"]


def test_a_kept_kernel_is_that_of_the_precision() -> None:
    torch.manual_seed(0)
    layer, x = Conv(WIDE, WIDE, 3).eval(), draw(1, LEAST_ROWS, WIDE).float()
    with torch.no_grad():
        for amp in (True, False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                assert layer(x).dtype == (torch.bfloat16 if amp else torch.float32)


def test_autocast_runs_in_bfloat16() -> None:
    torch.manual_seed(0)
    layer, x = Conv(WIDE, WIDE, 3), draw(1, LEAST_ROWS, WIDE).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - layer(x)).norm() <= 0.02 * layer(x).norm()


def test_pointwise() -> None:
    layer, x = Pointwise(6, 4).double(), draw(2, 5, 6)
    assert layer.weight.shape == (4, 6, 1)
    torch.testing.assert_close(layer(x), reference(x, layer.weight, layer.bias))
    assert layer.bias is not None
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("stride", [2, 3, 4, 5])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_pooling_without_a_canvas(length: int, stride: int, with_gradient: bool) -> None:
    x = draw(2, length, 3)
    with torch.set_grad_enabled(with_gradient):
        found = max_pool_over_time(x, stride, None)
    assert found.shape == (2, -(-length // stride), 3)
    reach = (stride + 1) // 2
    for position in range(found.shape[1]):
        first = max(position * stride - reach, 0)
        assert torch.equal(found[:, position], x[:, first : position * stride + reach + 1].amax(dim=1))
    library = F.max_pool1d(x.transpose(1, 2), 2 * reach + 1, stride, reach)
    assert torch.equal(found, library.transpose(1, 2))


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_positions_outside_the_canvas_never_win(stride: int, with_gradient: bool) -> None:
    x, lengths = draw(3, 10, 2) - 1e6, [10, 5, 1]  # all far below the zeros of the padding
    inside = torch.arange(10) < torch.tensor(lengths)[:, None]
    for filling in (0.0, 1e6):
        with torch.set_grad_enabled(with_gradient):
            found = max_pool_over_time(x.masked_fill(~inside.unsqueeze(-1), filling), stride, inside)
        for row, length in enumerate(lengths):
            alone = max_pool_over_time(x[row : row + 1, :length], stride, None)
            assert torch.equal(found[row, : alone.shape[1]], alone[0])
            assert (found[row, alone.shape[1] :] == 0).all()


def test_no_gradient_reaches_the_outside() -> None:
    x, inside = draw(1, 8, 2).requires_grad_(), torch.arange(8)[None] < 5
    max_pool_over_time(x, 2, inside).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[:, 5:] == 0).all()
