"""A model of a configuration at work on random features: training steps and inference, as the engine does them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from eventide.config import Config, sum_of
from eventide.engine.compiling import CompiledDetector
from eventide.engine.devices import choose_precision, make_fabric
from eventide.engine.ema import WeightAverage
from eventide.engine.inference import Inference, as_float32
from eventide.engine.measure.clock import PartClock, now
from eventide.engine.measure.results import Timing, Work
from eventide.engine.optim import build_optimizer, gradient_norm, scale_gradients
from eventide.layers.attention import ConvAttention
from eventide.models import build
from eventide.types import Batch, PyramidOutput, Timeline

EVENTS = 20  # per sequence
MOST_LENGTHS = 32  # of a compiled training; each has a graph of its own
FEATURE_ROWS = 1024  # random vectors, repeated: drawing more would take longer than what is measured


class Workload(Protocol):
    """A model that is ready to work; made once and used for all sizes."""

    module: nn.Module

    def run(self, batch: Batch) -> Timing:
        """One training step, or one batch from features to detections."""


class TrainingWork:
    """Model, optimiser, averaged weights and the step: forward, backward, clipping, update, average."""

    def __init__(self, config: Config, device: torch.device, amp: bool) -> None:
        self.device, self.limit, self.steps = device, config.train_cfg.clip_grad_l2norm, 0
        precision, _ = choose_precision(device, amp)
        self.fabric, self.scaler = make_fabric(device, precision)
        torch.manual_seed(config.seed)
        architecture = build(config)
        self.module, self.criterion = architecture.detector, architecture.criterion.to(device)
        self.detector: Callable[[Tensor, Tensor | None], PyramidOutput] = self.fabric.setup_module(self.module)
        self.share = config.resolve().train_cfg.teacher_share or 0.0
        self.average = WeightAverage(self.module, config.train_cfg.ema_decay, config.train_cfg.ema_ramp)
        self.optimizer = build_optimizer(config.opt, self.module, self.criterion)
        self.module.train()
        self.criterion.train()
        if config.train_cfg.compile:
            self.detector = CompiledDetector(self.detector, self.module, config.loader.batch_size, MOST_LENGTHS)

    def run(self, batch: Batch) -> Timing:
        """One step."""
        start = now(self.device)
        self._step(batch)
        return Timing(now(self.device) - start)

    def _step(self, batch: Batch) -> None:
        self.steps += 1
        torch.manual_seed(self.steps)
        teacher: tuple[PyramidOutput, float] | tuple[()] = ()
        if self.share:  # as most steps of a training have it
            with torch.no_grad(), self.fabric.autocast():
                teacher = as_float32(self.average.module(batch.features, None)), self.share
        output = as_float32(self.detector(batch.features, None))
        losses = self.criterion(output, batch.segments, batch.label_ids, *teacher)
        self.fabric.backward(losses["final_loss"])
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = float(gradient_norm(self.optimizer))
        if 0 < self.limit < norm:
            scale_gradients(self.optimizer, self.limit / (norm + 1e-6))
        self.optimizer.step()
        if self.scaler is not None:
            self.scaler.update()
        self.average.update()
        self.optimizer.zero_grad(set_to_none=True)


class InferenceWork:
    """Features to detections in seconds, with the seconds of the network and of the attention in it."""

    def __init__(self, config: Config, device: torch.device, amp: bool) -> None:
        self.device = device
        precision, _ = choose_precision(device, amp)
        fabric, _ = make_fabric(device, precision)
        torch.manual_seed(config.seed)
        architecture = build(config)
        self.module = architecture.detector.to(device).eval().requires_grad_(False)
        self.network = _Timed(self.module, device)
        labels = [f"class {number}" for number in range(config.dataset.num_classes)]
        self.inference = Inference(self.network, architecture.decoder, config, labels, fabric.autocast)
        self.attention = [module for module in self.module.modules() if isinstance(module, ConvAttention)]

    def run(self, batch: Batch) -> Timing:
        """All recordings of a batch in one call."""
        self.network.seconds = 0.0
        clock = PartClock(self.device)
        with clock.watching(self.attention):
            start = now(self.device)
            self.inference.detect(batch)
            whole = now(self.device) - start
        return Timing(whole, self.network.seconds, clock.read())


class _Timed(nn.Module):
    """A network whose seconds are kept."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self.device, self.seconds = network, device, 0.0

    def forward(self, features: Tensor, mask: Tensor | None = None) -> PyramidOutput:
        start = now(self.device)
        output: PyramidOutput = self.network(features, mask)
        self.seconds += now(self.device) - start
        return output


def make_workload(work: Work, config: Config, device: torch.device, amp: bool) -> Workload:
    """The model of a configuration, ready for this work."""
    return TrainingWork(config, device, amp) if work == "training" else InferenceWork(config, device, amp)


def random_batch(config: Config, length: int, batch: int) -> Batch:
    """`batch` sequences of `length` random vectors with twenty random events each; the same for the same sizes."""
    generator = torch.Generator().manual_seed(length)
    channels = sum_of(config.dataset.input_dim)
    rows = torch.randn(min(length, FEATURE_ROWS), channels, generator=generator)
    features = torch.empty(batch, length, channels)  # vector by vector, as the loader's lie in memory
    for start in range(0, length, FEATURE_ROWS):
        features[:, start : start + FEATURE_ROWS] = rows[: length - start]
    starts = torch.rand(batch, EVENTS, 1, generator=generator) * 0.9 * length
    lengths = 1 + torch.rand(batch, EVENTS, 1, generator=generator) * 0.1 * min(length, 2000)
    data = config.dataset
    stride = data.feat_stride if data.feat_stride > 0 else 1.0
    timeline = Timeline(data.default_fps or 30.0, stride, data.num_frames)
    return Batch(
        ids=[f"random {number}" for number in range(batch)],
        features=features.transpose(1, 2),
        mask=torch.ones(batch, length, dtype=torch.bool),
        lengths=[length] * batch,
        segments=torch.cat((starts, (starts + lengths).clamp(max=float(length))), dim=-1),
        label_ids=torch.randint(0, data.num_classes, (batch, EVENTS), generator=generator),
        timelines=[timeline] * batch,
    )
