"""One side of the network benchmark in a process of its own: answers commands from standard input, one JSON line each.

Started by `benchmarks.network` as `python -m benchmarks.network_worker ours|theirs FOLDER [PUBLISHED]`. Both sides get
the same weights (FOLDER/weights.safetensors) and the same inputs; each runs as its users run it, in its own process, so
that memory is measured apart and neither meets the other's settings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.worker import serve

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "thumos_i3d.yaml"
CHANNELS, CLASSES, LENGTH, BATCH = 2048, 20, 2304, 2
MIXED = (300, 587, 873, 1160, 1447, 1733, 2018, 2304)
FPS, STRIDE, FRAMES = 30.0, 4, 16


def features(length: int) -> np.ndarray:
    """(length, channels) float32, the same in every process."""
    return np.random.default_rng(length).standard_normal((length, CHANNELS), np.float32)


def events(row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty segments on the grid and their classes."""
    generator = np.random.default_rng(row)
    start = generator.uniform(0, LENGTH - 210, (20, 1))
    segments = np.concatenate((start, start + generator.uniform(4, 200, (20, 1))), axis=1).astype(np.float32)
    return torch.from_numpy(segments), torch.from_numpy(generator.integers(0, CLASSES, 20))


class Network:
    """Eventide through its own engine, with one set of switches (`key=value`, as after --set)."""

    def __init__(self, folder: Path, switches: Sequence[str]) -> None:
        from eventide.config_loading import load_config
        from eventide.engine.ema import WeightAverage
        from eventide.engine.optim import build_optimizer
        from eventide.models import build

        self.config = load_config(CONFIG, switches)
        torch.manual_seed(0)
        self.model = build(self.config)
        # Without switches it is the published network, and both sides read the same file.
        self.weights = folder / ("-".join(["weights", *switches]) + ".safetensors")
        if not self.weights.exists():
            save_file(self.model.detector.state_dict(), self.weights)
        self.model.detector.load_state_dict(load_file(self.weights))
        self.model.detector.train()
        self.model.criterion.train()
        self.optimizer = build_optimizer(self.config.opt, self.model.detector)
        self.average = WeightAverage(self.model.detector, 0.999, ramp=True)
        self.inputs = torch.stack([torch.from_numpy(features(LENGTH))] * BATCH).transpose(1, 2)  # as the loader does
        both = [events(row) for row in range(BATCH)]
        self.segments, self.label_ids = (torch.stack(parts) for parts in zip(*both, strict=True))
        self._predictors: dict[tuple[str, bool], Any] = {}

    def step(self, amp: bool = False) -> float:
        """Forward, backward, clipping, optimiser, EMA; the loss."""
        from eventide.engine.inference import as_float32
        from eventide.engine.optim import gradient_norm, scale_gradients

        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            output = self.model.detector(self.inputs, None)
        losses = self.model.criterion(as_float32(output), self.segments, self.label_ids)
        losses["final_loss"].backward()
        norm = float(gradient_norm(self.optimizer))
        if norm > 1.0:
            scale_gradients(self.optimizer, 1.0 / (norm + 1e-6))
        self.optimizer.step()
        self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        return losses["final_loss"].item()

    def infer(self, lengths: list[int], padding: str = "own", amp: bool = False) -> int:
        """Features to detections in seconds, NMS included, all lengths in one call; how many were found."""
        predictor = self._predictor(padding, amp)
        recordings = [features_of(length) for length in lengths]
        found = predictor.predict(recordings, fps=FPS, duration=[duration(length) for length in lengths])
        return sum(map(len, found))

    def _predictor(self, padding: str, amp: bool) -> Any:
        if (padding, amp) not in self._predictors:
            from eventide.engine.model_file import StoredModel
            from eventide.engine.predict import Predictor

            backbone = self.config.model.backbone.model_copy(update={"padding": padding})
            config = self.config.model_copy(
                update={"model": self.config.model.model_copy(update={"backbone": backbone})}
            )
            labels = [f"class {i}" for i in range(CLASSES)]
            stored = StoredModel(config, labels, FPS, load_file(self.weights))
            self._predictors[padding, amp] = Predictor(stored, device="cpu", amp=amp)
        return self._predictors[padding, amp]


class Ours:
    """Eventide: the published network, and the same with switches."""

    def __init__(self, folder: Path) -> None:
        from eventide.engine.memory import keep_freed_memory

        keep_freed_memory()
        self.folder = folder
        self.networks: dict[tuple[str, ...], Network] = {}
        self._network([])

    @staticmethod
    def prepare(work: str, lengths: list[int] = [], **_: Any) -> None:  # noqa: B006
        """Make features before the clock starts."""
        for length in lengths:
            features_of(length)

    def step(self, amp: bool = False, switches: Sequence[str] = ()) -> float:
        """A training step; the loss."""
        return self._network(switches).step(amp)

    def infer(self, lengths: list[int], padding: str = "own", amp: bool = False, switches: Sequence[str] = ()) -> int:
        """Features to detections; how many were found."""
        return self._network(switches).infer(lengths, padding, amp)

    def _network(self, switches: Sequence[str]) -> Network:
        key = tuple(switches)
        if key not in self.networks:
            self.networks[key] = Network(self.folder, key)
        return self.networks[key]


class Theirs:
    """The published implementation, as its train.py and eval.py use it."""

    def __init__(self, folder: Path, published: str) -> None:
        from benchmarks.common import load_published

        checkout = load_published(published)
        from libs.core import load_config
        from libs.modeling import make_meta_arch
        from libs.utils import ModelEma, make_optimizer

        self.config = load_config(str(checkout / "configs" / "thumos_i3d.yaml"))
        self.model = make_meta_arch(self.config["model_name"], **self.config["model"])
        self.model.load_state_dict(load_file(folder / "weights.safetensors"))
        self.average, self.optimizer = ModelEma(self.model), make_optimizer(self.model, self.config["opt"])
        self.batch = []
        for row in range(BATCH):
            segments, label_ids = events(row)
            self.batch.append({**self._item(LENGTH), "segments": segments, "labels": label_ids})
        self.evaluated = make_meta_arch(self.config["model_name"], **self.config["model"])
        self.evaluated.load_state_dict(load_file(folder / "weights.safetensors"))
        self.evaluated.eval()

    @staticmethod
    def _item(length: int) -> dict[str, Any]:
        return {
            "video_id": str(length),
            "feats": torch.from_numpy(np.ascontiguousarray(features_of(length).T)),
            "segments": None,
            "labels": None,
            "fps": FPS,
            "duration": duration(length),
            "feat_stride": STRIDE,
            "feat_num_frames": FRAMES,
        }

    prepare = staticmethod(Ours.prepare)

    def step(self) -> float:
        """As in its train_one_epoch."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.model(self.batch)
        losses["final_loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config["train_cfg"]["clip_grad_l2norm"])
        self.optimizer.step()
        self.average.update(self.model)
        return losses["final_loss"].item()

    def infer(self, lengths: list[int]) -> int:
        """One recording after the other, the only way it knows."""
        found = 0
        with torch.no_grad():
            for length in lengths:
                found += len(self.evaluated([self._item(length)])[0]["scores"])
        return found


_FEATURES: dict[int, np.ndarray] = {}


def features_of(length: int) -> np.ndarray:
    """Features made once, so that making them is not timed."""
    if length not in _FEATURES:
        _FEATURES[length] = features(length)
    return _FEATURES[length]


def duration(length: int) -> float:
    """Seconds that so many vectors cover."""
    return ((length - 1) * STRIDE + FRAMES) / FPS


def main() -> None:
    """Answer commands until standard input ends."""
    side, folder, published = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    serve(Ours(folder) if side == "ours" else Theirs(folder, published[0]))


if __name__ == "__main__":
    main()
