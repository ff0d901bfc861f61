"""Softmax attention of every query to all keys or to those in a window: one interface, interchangeable kernels.

All kernels give the same numbers. `q` (B, T, heads * D); `k`, `v` (B, T, shared * D) where `shared` divides `heads`:
query head h reads key head h * shared // heads (Ainslie et al., GQA, 2023). Rows of queries that see no valid key are
finite and mean nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.windows_by_matrices import windows_by_matrices
from eventide.ops.windows_by_sdpa import has_flash_on_cpu, windows_by_flash_on_cpu, windows_by_sdpa
from eventide.ops.windows_by_varlen import can_use_varlen, windows_by_varlen


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    heads: int,
    half: int | None = None,
    valid: Tensor | None = None,
    bias: Tensor | None = None,
    fused: bool = True,
) -> Tensor:
    """(B, T, heads * D), in the dtype of `q`.

    `half` None sees all keys, else those at most that far away; `valid` (B, T) bool marks keys that may be seen (None:
    all); `bias` (heads, 2 half + 1) is added to windowed scores by distance. `fused` uses kernels that keep no weights,
    otherwise plain matrices.
    """
    half, bias = within(q.shape[1], half, bias)
    if half is None:
        return (full_by_sdpa if fused else full_by_matrices)(q, k, v, heads=heads, valid=valid)
    if torch.compiler.is_compiling():
        return windows_by_sdpa(q, k, v, heads=heads, half=half, valid=valid, bias=bias)
    if fused and bias is None:
        if can_use_varlen(q, heads):
            return windows_by_varlen(q, k, v, heads=heads, half=half, valid=valid)
        if q.device.type == "cpu" and flash_is_fastest(q):
            return windows_by_flash_on_cpu(q, k, v, heads=heads, half=half, valid=valid)
    if fused and q.device.type not in ("cpu", "meta"):
        return windows_by_sdpa(q, k, v, heads=heads, half=half, valid=valid, bias=bias)
    return windows_by_matrices(q, k, v, heads=heads, half=half, valid=valid, bias=bias)


def within(length: int, half: int | None, bias: Tensor | None) -> tuple[int | None, Tensor | None]:
    """The window and its bias as a sequence of `length` needs them: blocks of a window that is far wider than the
    sequence would cost the square of the window.
    """
    farthest = length - 1
    if half is None or half < farthest:
        return half, bias
    if bias is None:
        return None, None
    return farthest, bias[:, half - farthest : half + farthest + 1]


def flash_is_fastest(q: Tensor) -> bool:
    """Whether the flash kernel on CPUs beats blocks of matrices: in full precision; its bfloat16 is far slower."""
    return has_flash_on_cpu() and q.dtype in (torch.float32, torch.float64)


def full_by_matrices(q: Tensor, k: Tensor, v: Tensor, *, heads: int, valid: Tensor | None = None) -> Tensor:
    """Every query sees every valid key, by plain matrix products; memory grows with T squared."""
    shared = k.shape[2] * heads // q.shape[2]
    queries = q.unflatten(-1, (shared, heads // shared, -1)).permute(0, 2, 3, 1, 4)
    keys, values = (x.unflatten(-1, (shared, 1, -1)).permute(0, 2, 3, 1, 4) for x in (k, v))
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    if valid is not None:
        scores = scores.masked_fill(~valid[:, None, None, None, :], torch.finfo(scores.dtype).min / 2)
    weights = scores.softmax(-1).to(values.dtype)
    return (weights @ values).permute(0, 3, 1, 2, 4).flatten(2)


def full_by_sdpa(q: Tensor, k: Tensor, v: Tensor, *, heads: int, valid: Tensor | None = None) -> Tensor:
    """Every query sees every valid key, by a fused kernel."""
    width = q.shape[2] // heads
    queries, keys, values = (x.unflatten(-1, (-1, width)).transpose(1, 2) for x in (q, k, v))
    mask = None if valid is None else valid[:, None, None, :]
    grouped = keys.shape[1] != heads
    return (
        F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)
        .transpose(1, 2)
        .flatten(2)
    )
