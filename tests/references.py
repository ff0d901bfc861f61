"""Plain formulas of the network's parts in float64, without any code of the package: what tests compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    heads: int,
    half: int | None = None,
    valid: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Softmax over an explicit mask of all pairs, one head at a time; rows without a key are zero."""
    batch, length, channels = q.shape
    width = channels // heads
    shared = k.shape[2] // width
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    allowed = torch.ones(batch, length, length, dtype=torch.bool)
    if half is not None:
        allowed = allowed & (distance.abs() <= half)
    if valid is not None:
        allowed = allowed & valid[:, None, :]
    out = []
    for head in range(heads):
        query, key = slice(head * width, (head + 1) * width), head * shared // heads
        keys, values = (x[..., key * width : (key + 1) * width] for x in (k, v))
        scores = q[..., query] @ keys.transpose(1, 2) / math.sqrt(width)
        if bias is not None and half is not None:
            scores = scores + bias[head, (distance + half).clamp(0, 2 * half)]
        weights = scores.masked_fill(~allowed, -1e300).softmax(-1) * allowed
        out.append(weights @ values)
    return torch.cat(out, dim=-1)


def rotate(x: Tensor, heads: int, positions: Tensor | None = None) -> Tensor:
    """Channel pairs of (B, T, heads * width) as complex numbers, times exp(i position 10000^(-2 pair / width))."""
    batch, length, channels = x.shape
    width = channels // heads
    pairs = torch.view_as_complex(x.reshape(batch, length, heads, width // 2, 2))
    position = torch.arange(length, dtype=torch.float64) if positions is None else positions
    angle = position[:, None] / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    turned = pairs * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.view_as_real(turned).reshape(batch, length, channels)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight.flatten() + bias.flatten()


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight.flatten()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`weight` (O, I) or (O, I, 1)."""
    return x @ weight.reshape(weight.shape[0], -1).t() + bias


def taps(x: Tensor, count: int, stride: int, filling: float = 0.0) -> Tensor:
    """The neighbours of every `stride`-th position, `count` (odd) of them: (B, ceil(T / stride), C, count)."""
    reach = count // 2
    beyond = torch.full((x.shape[0], reach, x.shape[2]), filling, dtype=x.dtype)
    return torch.cat((beyond, x, beyond), dim=1).unfold(1, count, 1)[:, ::stride]


def norm(x: Tensor, parameters: Parameters, name: str) -> Tensor:
    """The norm of that name: RMS where it has no bias."""
    weight, bias = parameters[f"{name}.weight"], parameters.get(f"{name}.bias")
    return rms_norm(x, weight) if bias is None else layer_norm(x, weight, bias)


def conv_attention(
    x: Tensor,
    parameters: Parameters,
    *,
    heads: int,
    stride: int,
    half: int | None,
    rotary: bool,
    valid: Tensor | None,
    prefix: str = "",
) -> Tensor:
    """Depth-wise convolution, norm and linear map for each of q, k and v; rotation; attention; linear map.

    `valid` is of the shortened sequence.
    """
    made = []
    for name in ("query", "key", "value"):
        kernel = parameters[f"{prefix}{name}_conv.conv.weight"][:, 0]
        convolved = (taps(x, kernel.shape[1], stride) * kernel).sum(-1)
        normed = norm(convolved, parameters, f"{prefix}{name}_norm")
        made.append(linear(normed, parameters[f"{prefix}{name}.weight"], parameters[f"{prefix}{name}.bias"]))
    q, k, v = made
    if rotary:
        q, k = rotate(q, heads), rotate(k, k.shape[2] * heads // q.shape[2])
    bias = parameters.get(f"{prefix}rel_pe")
    out = attention(q, k, v, heads=heads, half=half, valid=valid, bias=None if bias is None else bias[0, 0])
    return linear(out, parameters[f"{prefix}proj.weight"], parameters[f"{prefix}proj.bias"])


def feed_forward(x: Tensor, parameters: Parameters, prefix: str = "") -> Tensor:
    """SwiGLU where the parameters are those of a gated feed-forward, else GELU between two linear maps."""
    if f"{prefix}inner.weight" in parameters:
        both = linear(x, parameters[f"{prefix}inner.weight"], parameters[f"{prefix}inner.bias"])
        gate, value = both[..., : both.shape[-1] // 2], both[..., both.shape[-1] // 2 :]
        return linear(silu(gate) * value, parameters[f"{prefix}outer.weight"], parameters[f"{prefix}outer.bias"])
    hidden = gelu(linear(x, parameters[f"{prefix}0.weight"], parameters[f"{prefix}0.bias"]))
    return linear(hidden, parameters[f"{prefix}3.weight"], parameters[f"{prefix}3.bias"])


def block(
    x: Tensor, parameters: Parameters, *, heads: int, stride: int, half: int | None, rotary: bool, valid: Tensor | None
) -> Tensor:
    """A pre-norm transformer block; `x` (B, T, C) is zero and `valid` (B, T) False in the padding."""

    def masked(y: Tensor, mask: Tensor | None) -> Tensor:
        return y if mask is None else y * mask[..., None]

    below = None if valid is None else valid[:, ::stride]
    normed = masked(norm(x, parameters, "ln1"), valid)
    attended = conv_attention(
        normed, parameters, heads=heads, stride=stride, half=half, rotary=rotary, valid=below, prefix="attn."
    )
    skip = x
    if stride > 1:  # the greatest of the neighbours that are valid; zero where the position itself is not
        blocked = x if valid is None else x.masked_fill(~valid[..., None], -torch.inf)
        skip = taps(blocked, stride + 1 + stride % 2, stride, filling=-torch.inf).amax(-1)
        skip = skip if below is None else skip.masked_fill(~below[..., None], 0.0)
    out = skip + scaled(attended, parameters, "drop_path_attn")
    out = out + scaled(feed_forward(norm(out, parameters, "ln2"), parameters, "mlp."), parameters, "drop_path_mlp")
    return masked(out, below)


def scaled(x: Tensor, parameters: Parameters, name: str) -> Tensor:
    """Times the layer scale of that name, where there is one."""
    scale = parameters.get(f"{name}.scale")
    return x if scale is None else x * scale.flatten()


def double(module: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters in float64, as leaves to differentiate."""
    return {name: p.detach().double().requires_grad_() for name, p in module.named_parameters()}


def gradients(out: Tensor, direction: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """Of the sum of `out` * `direction`."""
    return list(torch.autograd.grad(out, wanted, direction.to(out.dtype)))


def assert_gradients_close(
    found: Sequence[Tensor], expected: Sequence[Tensor], names: Callable[[int], str] = str
) -> None:
    """Within 1e-4, absolute or of the greatest number of each tensor: sums over many rows grow with them."""
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        size = max(1.0, float(theirs.abs().max()))
        worst = float((ours.double() - theirs).abs().max())
        assert worst <= 1e-4 * size, f"{names(index)}: off by {worst:.2g} of {size:.2g}"
