"""A detector at work: batches of sequences in, detections in seconds out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from eventide.config import Config
from eventide.engine.postprocess import check_settings, postprocess
from eventide.engine.windows import Window, plan_windows
from eventide.models.registry import DecodesOutputs
from eventide.types import Batch, Candidates, Detections, PyramidOutput


class Inference:
    """Detector, decoder and what `test_cfg` says, for any number of sequences of any length."""

    def __init__(
        self,
        detector: nn.Module,
        decoder: DecodesOutputs,
        config: Config,
        labels: Sequence[str],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        *,
        operating_point: bool = False,
    ) -> None:
        """`operating_point` reports only what reaches `test_cfg.class_threshold`.

        Raises:
            EventideError: `test_cfg` names a label that there is not, or holds no thresholds for the operating point.
        """
        check_settings(config.test_cfg, labels, operating_point)
        self.operating_point = operating_point
        self.detector, self.decoder, self.settings, self.labels = detector, decoder, config.test_cfg, list(labels)
        self.kind = config.resolve().dataset.events or "segments"
        self.autocast = autocast
        backbone, start = config.model.backbone, config.model.fpn_start_level
        self.strides = [backbone.scale_factor**level for level in range(start, backbone.arch[2] + 1)]

    @property
    def device(self) -> torch.device:
        return next(self.detector.parameters()).device

    @torch.inference_mode()
    def detect(self, batch: Batch) -> list[Detections]:
        """Detections of every sequence of a batch."""
        return [
            postprocess(candidates, timeline, self.settings, self.labels, self.kind, self.operating_point)
            for candidates, timeline in zip(self.candidates(batch), batch.timelines, strict=True)
        ]

    @torch.inference_mode()
    def candidates(self, batch: Batch) -> list[Candidates]:
        """Candidates of every sequence, before suppression; in windows where `test_cfg.chunk` asks for it."""
        chunk = self.settings.chunk
        if chunk is None or max(batch.lengths) <= chunk.length:
            return self.decoder(self._forward(batch.features, batch.lengths))
        return [
            self._in_windows(
                batch.features[index, :, :length],
                plan_windows(length, chunk.length, chunk.overlap, self.strides[-1]),
            )
            for index, length in enumerate(batch.lengths)
        ]

    def _forward(self, features: Tensor, lengths: Sequence[int]) -> PyramidOutput:
        """Raw outputs in float32; `features` (B, C, T) from anywhere."""
        features = features.to(self.device, non_blocking=True)
        mask = None
        if min(lengths) < features.shape[-1]:
            ends = torch.tensor(lengths, device=self.device)
            mask = torch.arange(features.shape[-1], device=self.device) < ends[:, None]
        with self.autocast():
            output = self.detector(features, mask)
        return as_float32(output)

    def _in_windows(self, features: Tensor, windows: Sequence[Window]) -> Candidates:
        """Candidates of one sequence (C, T), each window reporting its own points."""
        parts: list[Candidates] = []
        size = self.settings.batch_size
        for first in range(0, len(windows), size):
            group = list(windows[first : first + size])
            lengths = [window.stop - window.start for window in group]
            inputs = features.new_zeros(len(group), max(lengths), features.shape[0]).transpose(1, 2)
            for row, window in zip(inputs, group, strict=True):
                row[:, : window.stop - window.start] = features[:, window.start : window.stop]
            output = self._forward(inputs, lengths)
            for level, stride in zip(range(len(output.masks)), self.strides, strict=False):  # heads may read fewer
                count = output.masks[level].shape[1]
                owned = torch.stack([window.owned(count, stride, self.device) for window in group])
                output.reported = [*(output.reported or []), owned]
            parts += [found.moved(window.start) for found, window in zip(self.decoder(output), group, strict=True)]
        return concatenate(parts)


def concatenate(parts: Sequence[Candidates]) -> Candidates:
    """All candidates of several windows of one recording; at least one window."""

    def joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        return None if arrays[0] is None else np.concatenate([array for array in arrays if array is not None])

    return Candidates(
        np.concatenate([part.segments for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.label_ids for part in parts]),
        joined([part.std for part in parts]),
        joined([part.quantiles for part in parts]),
    )


def as_float32(output: PyramidOutput) -> PyramidOutput:
    """Raw outputs in float32, whatever precision they were computed in."""
    return output.map(Tensor.float)
