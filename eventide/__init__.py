"""Eventide finds when things happen in long recordings. `eventide.load(PATH).predict(features)` gives detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from eventide.engine.predict import Predictor

__all__ = ["__version__", "load"]


def load(
    path: str | Path,
    device: str = "auto",
    *,
    amp: bool = False,
    operating_point: bool = False,
    keep_memory: bool = True,
) -> Predictor:
    """A trained model, ready to predict.

    Args:
        path: a model file (`best.safetensors`), a training checkpoint (`checkpoints/step_*.pt`) or a run's folder.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        amp: compute in bfloat16 or float16, where the device has it.
        operating_point: report only detections that reach the threshold of their label, which `eventide calibrate`
            stores with the model.
        keep_memory: under Linux, let this process keep freed memory for the next tensors instead of returning it to the
            system after each; much faster on CPUs (docs/inference.md), and a setting of the whole process.
    Raises:
        EventideError: there is nothing at `path`, it is damaged, or it is none of these; or it has no thresholds for
            the operating point.
    """
    from eventide.engine.memory import keep_freed_memory
    from eventide.engine.predict import Predictor

    if keep_memory:
        keep_freed_memory()
    return Predictor.load(path, device=device, amp=amp, operating_point=operating_point)


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: reading the package's metadata takes longer than the import."""
    if name != "__version__":
        raise AttributeError(f"module 'eventide' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("eventide")
    except PackageNotFoundError:
        return "unknown"
