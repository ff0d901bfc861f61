"""Windowed attention through PyTorch's fused kernels: blocks of queries with their spans of keys as short sequences.

Two ways to the same numbers: on CPUs the flash kernel is called on overlapping views and its gradients of spans are
added up here, which autograd would do with a slow scatter; elsewhere, and for the compiler, plain differentiable
operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eventide.ops.window_blocks import WindowBlocks, head_slices

# Private to PyTorch, but the only way to hand a gradient through overlapping views; without it the other way is taken.
_FLASH: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FLASH_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def has_flash_on_cpu() -> bool:
    """Whether this PyTorch has the CPU flash kernel that `windows_by_flash_on_cpu` needs."""
    return _FLASH is not None and _FLASH_BACKWARD is not None


def windows_by_sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """As `windows_by_matrices`, on any device and readable for the compiler; differentiable once."""
    cut = WindowBlocks.of(q, half)
    shared = k.shape[2] * heads // q.shape[2]
    queries = cut.flatten(q).unflatten(0, (cut.total, cut.size)).unflatten(-1, (heads, -1)).transpose(1, 2)
    keys, values = (
        cut.flatten_keys(x).unfold(0, cut.span, cut.size).unflatten(1, (shared, -1)).transpose(2, 3) for x in (k, v)
    )
    mask = cut.whole_barrier(valid, q).unsqueeze(1)
    if bias is not None:
        mask = mask + cut.distance_bias(bias).to(mask.dtype)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=shared != heads)
    return cut.restore(out.transpose(1, 2).flatten(2).flatten(0, 1))


def windows_by_flash_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None = None
) -> Tensor:
    """As `windows_by_matrices`, on the CPU and without a bias; differentiable once, keeps no weights."""
    return _FlashWindows.apply(q, k, v, valid, heads, half)


class _FlashWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None, heads: int, half: int) -> Tensor:
        cut = WindowBlocks.of(q, half)
        shared = k.shape[2] * heads // q.shape[2]
        q, k, v = cut.flatten(q), cut.flatten_keys(k), cut.flatten_keys(v)
        mask = cut.whole_barrier(valid, q).unsqueeze(1)
        out = torch.empty_like(q)
        sizes = []
        groups = _groups(q, k, heads, shared)
        group = heads // len(groups)
        for query, key in groups:
            result, size = _FLASH(*_views(cut, q, k, v, query, key, group), 0.0, False, attn_mask=mask)
            _by_head(cut, out, query, group).copy_(result)
            sizes.append(size)
        ctx.save_for_backward(q, k, v, mask, out, *sizes)
        ctx.cut, ctx.heads, ctx.shared = cut, heads, shared
        return cut.restore(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, *sizes = ctx.saved_tensors
        cut: WindowBlocks = ctx.cut
        gradient = cut.flatten(gradient)
        for_q, for_k, for_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        groups = _groups(q, k, ctx.heads, ctx.shared)
        group = ctx.heads // len(groups)
        for (query, key), size in zip(groups, sizes, strict=True):
            views = _views(cut, q, k, v, query, key, group)
            incoming, result = _by_head(cut, gradient, query, group), _by_head(cut, out, query, group)
            query_part, key_part, value_part = _FLASH_BACKWARD(
                incoming, *views, result, size, 0.0, False, attn_mask=mask
            )
            _by_head(cut, for_q, query, group).copy_(query_part)
            for part, into in ((key_part, for_k), (value_part, for_v)):
                _add_heads(cut, part, into[:, key], group if ctx.shared == ctx.heads else 1)
        return cut.restore(for_q), cut.restore_keys(for_k), cut.restore_keys(for_v), None, None, None


def _groups(q: Tensor, k: Tensor, heads: int, shared: int) -> list[tuple[slice, slice]]:
    """Query and key channels that one call of the kernel takes: all, or those of one shared key head."""
    if shared == heads:
        return [(slice(0, q.shape[1]), slice(0, k.shape[1]))]
    return list(zip(head_slices(q.shape[1], shared), head_slices(k.shape[1], shared), strict=True))


def _by_head(cut: WindowBlocks, x: Tensor, channels: slice, heads: int) -> Tensor:
    """(total * size, C) -> the blocks of some channels by head: (total, heads, size, D), a view."""
    return cut.blocks(x, channels).unflatten(-1, (heads, -1)).transpose(1, 2)


def _views(
    cut: WindowBlocks, q: Tensor, k: Tensor, v: Tensor, query: slice, key: slice, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks and spans as the kernel takes them: (total, heads, size or span, D); a shared key head is repeated."""
    queries = _by_head(cut, q, query, heads)
    width = queries.shape[-1]
    keys, values = (
        cut.spans(x, key).unflatten(-1, (-1, width)).transpose(1, 2).expand(-1, heads, -1, -1) for x in (k, v)
    )
    return queries, keys, values


def _add_heads(cut: WindowBlocks, part: Tensor, into: Tensor, heads: int) -> None:
    """Adds the gradient of spans (total, any, span, D) to (.., heads * D); those of a shared head are summed."""
    if part.shape[1] != heads:
        part = part.sum(1, keepdim=True)
    cut.add_spans(part.transpose(1, 2).flatten(2), into)
