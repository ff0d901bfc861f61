"""Every registered architecture on a CUDA device: the numbers of the CPU, and no wait for the device in a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eventide.models import BUILDERS, Architecture
from eventide.types import PyramidOutput

from .making import CHANNELS, build_random, pad_together, small_config

pytestmark = pytest.mark.cuda
VARIANTS: dict[str, dict[str, Any]] = {
    "v1": {},
    "v2": {"model__backbone_type": "convTransformerv2"},
    "v2, cs_fpn": {"model__backbone_type": "convTransformerv2", "model__fpn_type": "cs_fpn"},
}
SEGMENTS = torch.tensor([[[3.0, 9.0], [20.0, 27.0], [30.0, 52.0]], [[2.0, 30.0], [33.0, 40.0], [0.0, 0.0]]])
LABELS = torch.tensor([[0, 1, 2], [2, 1, -1]])


@pytest.fixture(params=sorted(BUILDERS))
def meta_arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in whole float32, as on the CPU."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return pad_together([torch.randn(CHANNELS, length, generator=generator) for length in (60, 41)])


def on_both(config: Any) -> list[tuple[Architecture, str]]:
    """The same model on the CPU and on the device."""
    models = []
    for device in ("cpu", "cuda"):
        architecture = build_random(config)
        architecture.detector.to(device)
        architecture.criterion.to(device)
        models.append((architecture, device))
    return models


def test_outputs_losses_and_gradients_are_those_of_the_cpu(meta_arch: str, variant: dict[str, Any]) -> None:
    results = []
    for architecture, device in on_both(small_config(meta_arch, **variant)):
        features, mask = (x.to(device) for x in batch())
        output = architecture.detector.train()(features, mask)
        losses = architecture.criterion.train()(output, SEGMENTS.to(device), LABELS.to(device))
        losses["final_loss"].backward()
        gradients = {name: p.grad.cpu() for name, p in architecture.detector.named_parameters() if p.grad is not None}
        results.append((output.logits, output.offsets, losses, gradients))
    (logits, offsets, losses, gradients), theirs = results
    for ours, other in ((logits, theirs[0]), (offsets, theirs[1])):
        for level, there in zip(ours, other, strict=True):
            torch.testing.assert_close(there.cpu(), level, rtol=1e-4, atol=1e-4)
    for name, value in losses.items():
        torch.testing.assert_close(theirs[2][name].cpu(), value, rtol=1e-4, atol=1e-5, msg=name)
    for name, gradient in gradients.items():
        torch.testing.assert_close(theirs[3][name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_candidates_are_those_of_the_cpu(meta_arch: str, variant: dict[str, Any]) -> None:
    found = []
    for architecture, device in on_both(small_config(meta_arch, **variant)):
        features, mask = (x.to(device) for x in batch())
        with torch.no_grad():
            output: PyramidOutput = architecture.detector.eval()(features, mask)
            found.append(architecture.decoder(output))
    for ours, theirs in zip(*found, strict=True):
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(np.sort(ours.scores), np.sort(theirs.scores), atol=1e-4)
        np.testing.assert_allclose(np.sort(ours.segments[:, 0]), np.sort(theirs.segments[:, 0]), atol=1e-2)


def test_a_step_does_not_wait_for_the_device(meta_arch: str, variant: dict[str, Any]) -> None:
    (_, _), (architecture, device) = on_both(small_config(meta_arch, **variant))
    features, mask = (x.to(device) for x in batch())
    segments, label_ids = SEGMENTS.to(device), LABELS.to(device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = architecture.criterion.train()(architecture.detector.train()(features, mask), segments, label_ids)
        losses["final_loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
