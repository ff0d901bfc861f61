"""Grid positions to seconds and back: the one place where this is written."""

from __future__ import annotations

from typing import Any


def grid_to_seconds(grid: Any, fps: float, feat_stride: float, num_frames: float) -> Any:
    """Seconds of grid positions (array, tensor or number): (grid * feat_stride + 0.5 * num_frames) / fps."""
    return (grid * feat_stride + 0.5 * num_frames) / fps


def seconds_to_grid(seconds: Any, fps: float, feat_stride: float, num_frames: float) -> Any:
    """Grid positions of times in seconds (array, tensor or number); the inverse of `grid_to_seconds`."""
    return seconds * fps / feat_stride - 0.5 * num_frames / feat_stride
