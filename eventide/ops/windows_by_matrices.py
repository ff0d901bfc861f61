"""Windowed attention by plain matrix products over blocks, one head at a time: no copy of heads or spans."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eventide.ops.window_blocks import WindowBlocks, head_slices


def windows_by_matrices(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, half: int, valid: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Softmax attention with scores q k / sqrt(D) + bias to the keys at most `half` away; differentiable once.

    `q` (B, T, C) with `heads` times D channels; `k`, `v` with a number of heads that divides theirs; `valid` (B, T)
    bool marks the keys that may be seen (None: all); `bias` (heads, 2 half + 1) is added by distance of key from query,
    -half first. Returns (B, T, C); rows of queries that see no valid key are finite and mean nothing.
    """
    return _WindowedAttention.apply(q, k, v, bias, valid, heads, half)


class _WindowedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, valid: Tensor | None, heads: int, half: int
    ) -> Tensor:
        cut = WindowBlocks.of(q, half)
        queries, shared = head_slices(q.shape[2], heads), head_slices(k.shape[2], k.shape[2] * heads // q.shape[2])
        keys = [shared[head * len(shared) // heads] for head in range(heads)]
        q, k, v = cut.flatten(q), cut.flatten_keys(k), cut.flatten_keys(v)
        weights = q.new_empty(heads, cut.total, cut.size, cut.span)
        for head in range(heads):
            torch.bmm(cut.blocks(q, queries[head]), cut.spans(k, keys[head]).transpose(1, 2), out=weights[head])
        weights.mul_((q.shape[1] // heads) ** -0.5)
        if bias is not None:
            weights.add_(cut.distance_bias(bias).unsqueeze(1).to(q.dtype))
        # Autocast on CUDA makes softmax return float32, which the matrix products of the backward pass would refuse.
        batched = weights.unflatten(1, (cut.batch, cut.count))
        barrier = cut.barrier(valid, weights)
        batched.add_(barrier.unflatten(0, (-1, cut.count)))
        weights = weights.softmax(dim=-1).to(q.dtype)
        out = torch.empty_like(q)
        for head in range(heads):
            cut.blocks(out, queries[head]).copy_(torch.bmm(weights[head], cut.spans(v, keys[head])))
        ctx.save_for_backward(q, k, v, weights)
        ctx.cut, ctx.slices, ctx.with_bias = cut, (queries, keys), bias is not None
        return cut.restore(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        cut: WindowBlocks = ctx.cut
        queries, keys = ctx.slices
        gradient = cut.flatten(gradient)
        scores = torch.empty_like(weights)
        for_q, for_k, for_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for head, (query, key) in enumerate(zip(queries, keys, strict=True)):
            out = cut.blocks(gradient, query)
            torch.bmm(out, cut.spans(v, key).transpose(1, 2), out=scores[head])
            cut.add_spans(torch.bmm(weights[head].transpose(1, 2), out), for_v[:, key])
        scores = torch.ops.aten._softmax_backward_data(scores, weights, -1, weights.dtype)
        for_bias = _bias_gradient(scores, cut) if ctx.with_bias else None
        scores.mul_((q.shape[1] // len(queries)) ** -0.5)
        for head, (query, key) in enumerate(zip(queries, keys, strict=True)):
            cut.blocks(for_q, query).copy_(torch.bmm(scores[head], cut.spans(k, key)))
            cut.add_spans(torch.bmm(scores[head].transpose(1, 2), cut.blocks(q, query)), for_k[:, key])
        return cut.restore(for_q), cut.restore_keys(for_k), cut.restore_keys(for_v), for_bias, None, None, None


def _bias_gradient(scores: Tensor, cut: WindowBlocks) -> Tensor:
    """Sums the gradient of the scores (H, total, size, span) by distance: (H, 2 half + 1)."""
    summed = scores.sum(dim=1, dtype=torch.promote_types(scores.dtype, torch.float32)).flatten(1)
    distance = (cut.distance(scores.device) + cut.half).flatten()
    near = (distance >= 0) & (distance <= 2 * cut.half)
    # Pairs too far apart have weight 0 and so gradient 0: they may be added anywhere.
    out = summed.new_zeros(scores.shape[0], 2 * cut.half + 1)
    return out.index_add_(1, torch.where(near, distance, 0), summed)
