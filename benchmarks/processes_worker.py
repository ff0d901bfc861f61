"""One process of `benchmarks.processes`: a trainer on made-up sequences, and a bare loop beside it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.worker import serve
from eventide.config import Config
from eventide.config_loading import load_config
from eventide.data.steps import Piece
from eventide.engine.fit import FitOptions
from eventide.engine.measure.workload import random_batch
from eventide.engine.memory import keep_freed_memory
from eventide.engine.optim import build_optimizer
from eventide.engine.processes import find_launch
from eventide.engine.progress import Reporter
from eventide.engine.rendezvous import joined
from eventide.engine.run_folder import RunFolder
from eventide.engine.setup import set_up
from eventide.engine.world import World
from eventide.models import build
from eventide.types import Batch


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Side:
    """The works that the parent asks for; of several processes all do the same."""

    def __init__(self, config: Config, folder: Path, length: int, world: World) -> None:
        self.world = world
        run = RunFolder(folder / "run")
        world.by_first(lambda: run.open(None))
        reporter = Reporter(folder / "log" if world.is_first else None, silent=True)
        self.trainer = set_up(config, run, FitOptions(print_freq=1), reporter, world)
        self.trainer.state.detector.train()
        self.trainer.state.criterion.train()
        self.batch = random_batch(config, length, config.loader.batch_size)
        self.stream = self._steps()
        torch.manual_seed(config.seed)
        self.bare_model, self.limit = build(config), config.train_cfg.clip_grad_l2norm
        self.optimizer = build_optimizer(config.opt, self.bare_model.detector, self.bare_model.criterion)
        self.bare_model.detector.train()

    def _steps(self) -> Iterator[tuple[tuple[int, list[Piece]], list[Batch]]]:
        piece = Piece(self.world.rank, np.arange(len(self.batch.ids)))
        while True:
            yield (0, [piece]), [self.batch]

    def prepare(self, work: str, count: int) -> None:
        """Tell the other processes."""
        self.world.from_first((work, count))

    def steps(self, count: int) -> None:
        """Steps of the trainer, with a line in every log after each."""
        for _ in range(count):
            norm = self.trainer._step(self.stream)
            self.trainer.reports.steps(self.trainer.state, norm, self.trainer.watch.read())

    def bare(self, count: int) -> None:
        """Forward, backward, clipping, update."""
        model, batch = self.bare_model, self.batch
        for _ in range(count):
            output = model.detector(batch.features, None)
            model.criterion(output, batch.segments, batch.label_ids)["final_loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.detector.parameters(), self.limit or 1e9)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def background(self, count: int) -> None:
        """Steps while a checkpoint is written."""
        self._with_checkpoint(count, True)

    def waiting(self, count: int) -> None:
        """A checkpoint, then steps."""
        self._with_checkpoint(count, False)

    def _with_checkpoint(self, count: int, background: bool) -> None:
        self.trainer.writer.background = background
        self.trainer._save()
        self.steps(count)
        self.trainer.writer.wait()


def small(config: Config, folder: Path) -> Config:
    """The configuration with a data set of one made-up recording per class list, which is never read in the steps."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = config.dataset.input_dim
    channels = channels if isinstance(channels, int) else sum(channels)
    rows = np.zeros((64, channels), dtype=np.float32)
    database = {}
    for subset in ("training", "validation"):
        for number in range(8):
            np.save(folder / f"{subset}{number}.npy", rows)
            events = [{"segment": [1.0, 2.0], "label": "event", "label_id": 0}]
            database[f"{subset}{number}"] = {"subset": subset, "duration": 9.0, "fps": 30.0, "annotations": events}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    data = config.dataset.model_copy(
        update={
            "json_file": str(folder / "annotations.json"),
            "feat_folder": str(folder),
            "file_prefix": "",
            "file_ext": ".npy",
            "input_dim": channels,
            "default_fps": 30.0,
            "feat_stride": 4.0,
            "num_frames": 4.0,
        }
    )
    return config.model_copy(
        update={"dataset": data, "train_split": ["training"], "val_split": ["validation"], "device": "cpu"}
    )


def main() -> None:
    """Serve as the first process, or follow it."""
    path, name, length = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    keep_freed_memory()
    launch = find_launch()
    config = small(load_config(path), name / f"data{launch.rank}")
    with joined(launch, "cpu", 120) as world:
        side = Side(config, name, length, world)
        if world.is_first:
            try:
                serve(side)
            finally:
                world.from_first(None)
            return
        while (command := world.from_first(None)) is not None:
            work, count = command
            getattr(side, work)(count)


if __name__ == "__main__":
    main()
