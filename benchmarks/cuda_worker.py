"""One side of the CUDA benchmark in a process of its own, as `benchmarks.network_worker` is on CPUs.

Started by `benchmarks.cuda` as `python -m benchmarks.cuda_worker ours|theirs DEVICE LENGTH FOLDER [PUBLISHED]`.
Features lie in the host's memory and are copied to the device in every run, on both sides.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.network_worker import BATCH, CONFIG, Theirs, events, features_of
from benchmarks.worker import serve
from eventide.config_loading import load_config
from eventide.engine.measure.workload import Workload, make_workload, random_batch
from eventide.types import Batch

# The sizes and windows of the published configuration, with backbone v2 and all its switches.
V2 = ["model.backbone_type=convTransformerv2"]


class OursOnDevice:
    """Backbone v2 with all switches, through the engine."""

    def __init__(self, device: torch.device, length: int) -> None:
        self.config, self.device, self.length = load_config(CONFIG, V2), device, length
        self._workloads: dict[tuple[str, bool], Workload] = {}

    def step(self, amp: bool = False) -> float:
        """A training step; seconds of it without the copy."""
        batch = _batch(self.config, self.length, BATCH).to(self.device)
        return self._workload("training", amp).run(batch).whole

    def infer(self, length: int, amp: bool = False) -> float:
        """Features to detections in seconds; seconds of the network."""
        batch = _batch(self.config, length, 1).to(self.device)
        return self._workload("inference", amp).run(batch).network or 0.0

    def prepare(self, work: str, length: int | None = None, amp: bool = False, **_: Any) -> None:
        """Make features and model before the clock starts."""
        _batch(self.config, length or self.length, BATCH if work == "step" else 1)
        self._workload("training" if work == "step" else "inference", amp)

    def _workload(self, work: Any, amp: bool) -> Workload:
        if (work, amp) not in self._workloads:
            self._workloads[work, amp] = make_workload(work, self.config, self.device, amp)
        return self._workloads[work, amp]


class TheirsOnDevice(Theirs):
    """The published implementation, moved to the device with the settings of its train.py."""

    def __init__(self, device: torch.device, length: int, folder: Path, published: str) -> None:
        super().__init__(folder, published)
        from libs.utils import fix_random_seed

        fix_random_seed(0, include_cuda=device.type == "cuda")
        for module in (self.model, self.average, self.evaluated):
            module.to(device)
        if length != self.batch[0]["feats"].shape[1]:
            for row, item in enumerate(self.batch):
                segments, label_ids = events(row)
                scale = length / item["feats"].shape[1]
                item.update(self._item(length), segments=segments * scale, labels=label_ids)

    def infer(self, length: int) -> int:  # type: ignore[override]
        """Features to detections in seconds; how many."""
        return super().infer([length])

    @staticmethod
    def prepare(work: str, length: int | None = None, **_: Any) -> None:  # type: ignore[override]
        """Make features before the clock starts."""
        if length is not None:
            features_of(length)


_BATCHES: dict[tuple[int, int], Batch] = {}


def _batch(config: Any, length: int, batch: int) -> Batch:
    """Features and events made once, in the host's memory."""
    if (length, batch) not in _BATCHES:
        _BATCHES[length, batch] = random_batch(config, length, batch)
    return _BATCHES[length, batch]


def main() -> None:
    """Answer commands until standard input ends."""
    side, device, length, folder, *published = sys.argv[1:]
    where = torch.device(device)
    if side == "ours":
        serve(OursOnDevice(where, int(length)))
    else:
        serve(TheirsOnDevice(where, int(length), Path(folder), published[0]))


if __name__ == "__main__":
    main()
