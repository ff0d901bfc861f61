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
        merged = [c.keep_valid(conv(x)) for x, c, conv in zip(levels, canvases, self.lateral_convs, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            coarse = merged[level].repeat_interleave(self.scale_factor, dim=1)[:, : merged[level - 1].shape[1]]
            merged[level - 1] = merged[level - 1] + coarse
        outputs = []
        for x, canvas, conv, norm in zip(merged, canvases, self.fpn_convs, self.fpn_norms, strict=True):
            x = canvas.keep_valid(conv(canvas.keep_inside(x)))
            outputs.append(canvas.keep_inside(norm(x)))
        return outputs
