"""Necks: the backbone's pyramid to the pyramid that the heads read."""

from __future__ import annotations

from torch import Tensor, nn

from eventide.layers.canvas import Canvas
from eventide.layers.conv import Conv
from eventide.layers.norm import optional_norm


class IdentityNeck(nn.Module):
    """A norm per level, nothing else."""

    def __init__(self, levels: int, channels: int, with_norm: bool):
        super().__init__()
        self.fpn_norms = nn.ModuleList(optional_norm(channels, with_norm) for _ in range(levels))

    def forward(self, levels: list[Tensor], canvases: list[Canvas]) -> list[Tensor]:
        """L x (B, T_l, C) -> the same shapes, zero outside the canvas."""
        return [c.keep_inside(norm(x)) for x, c, norm in zip(levels, canvases, self.fpn_norms, strict=True)]


class PyramidNeck(nn.Module):
    """Feature pyramid network: coarse levels are added to finer ones (Lin et al., 2017), as in ActionFormer's `fpn`."""

    def __init__(self, levels: int, inputs: int, channels: int, with_norm: bool, scale_factor: int):
        super().__init__()
        self.scale_factor = scale_factor
        bias = not with_norm
        self.lateral_convs = nn.ModuleList(Conv(inputs, channels, 1, bias=bias) for _ in range(levels))
        self.fpn_convs = nn.ModuleList(Conv(channels, channels, 3, groups=channels, bias=bias) for _ in range(levels))
        self.fpn_norms = nn.ModuleList(optional_norm(channels, with_norm) for _ in range(levels))

    def forward(self, levels: list[Tensor], canvases: list[Canvas]) -> list[Tensor]:
        """L x (B, T_l, inputs) -> L x (B, T_l, channels), zero outside the canvas."""
        return self.finish(self.merge(levels, canvases), canvases)

    def merge(self, levels: list[Tensor], canvases: list[Canvas]) -> list[Tensor]:
        """L x (B, T_l, inputs) -> L x (B, T_l, channels): each level plus all coarser ones."""
        merged = [c.keep_valid(conv(x)) for x, c, conv in zip(levels, canvases, self.lateral_convs, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            coarse = merged[level].repeat_interleave(self.scale_factor, dim=1)[:, : merged[level - 1].shape[1]]
            merged[level - 1] = merged[level - 1] + coarse
        return merged

    def finish(self, merged: list[Tensor], canvases: list[Canvas]) -> list[Tensor]:
        """L x (B, T_l, channels) -> the same shapes after the last convolutions and norms, zero outside the canvas."""
        outputs = []
        for x, canvas, conv, norm in zip(merged, canvases, self.fpn_convs, self.fpn_norms, strict=True):
            x = canvas.keep_valid(conv(canvas.keep_inside(x)))
            outputs.append(canvas.keep_inside(norm(x)))
        return outputs


class CrossScaleNeck(PyramidNeck):
    """Top-down as `PyramidNeck`, then bottom-up: fine levels, shortened by convolutions, are added to coarser ones
    (path aggregation, Liu et al., 2018, section 3.2).
    """

    def __init__(self, levels: int, inputs: int, channels: int, with_norm: bool, scale_factor: int):
        super().__init__(levels, inputs, channels, with_norm, scale_factor)
        kernel = scale_factor + 1 + scale_factor % 2  # odd, so that ceil(T / scale_factor) positions come out
        self.down_convs = nn.ModuleList(
            Conv(channels, channels, kernel, scale_factor, bias=not with_norm) for _ in range(levels - 1)
        )

    def merge(self, levels: list[Tensor], canvases: list[Canvas]) -> list[Tensor]:
        """L x (B, T_l, inputs) -> L x (B, T_l, channels): each level plus all others, zero where not valid.

        What coarse levels leave beyond the last real vector is cut before the way up, so that it needs no position
        beyond the sequence's end.
        """
        merged = super().merge(levels, canvases)
        merged = [canvas.keep_valid(x) for x, canvas in zip(merged, canvases, strict=True)]
        for level, conv in enumerate(self.down_convs):
            merged[level + 1] = merged[level + 1] + canvases[level + 1].keep_valid(conv(merged[level]))
        return merged
