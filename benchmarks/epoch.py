"""An epoch of a real training, beside the published implementation: same data, size, batch; each loads and pads
its own way.

    EVENTIDE_DATA=/path/to/data python -m benchmarks.epoch configs/hapt_segments.yaml --published /path/to/checkout

Whole trainings differ by the number of epochs only, so the ratio of epochs is the ratio of wall times.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import arguments, compare, load_published, report
from benchmarks.worker import Worker, serve
from eventide.config import Config
from eventide.config_loading import load_config


class Ours:
    """Eventide's own trainer, one epoch of steps at a time."""

    def __init__(self, config: Config, folder: Path) -> None:
        from eventide.data.loader import training_steps
        from eventide.data.steps import ALONE, step_pieces
        from eventide.engine.fit import FitOptions
        from eventide.engine.memory import keep_freed_memory
        from eventide.engine.progress import Reporter
        from eventide.engine.run_folder import RunFolder
        from eventide.engine.setup import set_up

        keep_freed_memory()
        run = RunFolder(folder)
        run.open(None)
        self.trainer = set_up(config, run, FitOptions(), Reporter(run.log))
        self.trainer.state.detector.train()
        self.trainer.state.criterion.train()
        self.trainer.watch.start()
        plan = self.trainer.batch_plan
        self.steps = zip(step_pieces(plan, ALONE), training_steps(self.trainer.data, plan, num_workers=0), strict=False)

    def epoch(self) -> int:
        """All steps of one epoch; how many."""
        steps = self.trainer.plan.steps_per_epoch
        for _ in range(steps):
            self.trainer._step(self.steps)
        return steps


class Theirs:
    """The published data set, loader and train_one_epoch."""

    def __init__(self, config: Config, published: str) -> None:
        load_published(published)
        from libs.core import load_config as load_published_config
        from libs.datasets import make_data_loader, make_dataset
        from libs.modeling import make_meta_arch
        from libs.utils import ModelEma, make_optimizer, make_scheduler, train_one_epoch

        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(flat_yaml(config))
            file.flush()
            settings = load_published_config(file.name)
        data = make_dataset("thumos", True, settings["train_split"], **settings["dataset"])
        generator = torch.manual_seed(config.seed % 2**31)
        self.loader: Any = make_data_loader(data, True, generator, batch_size=config.loader.batch_size, num_workers=1)
        self.model = torch.nn.ModuleDict({"module": make_meta_arch("LocPointTransformer", **settings["model"])})
        network = self.model["module"]
        self.optimizer, self.average = make_optimizer(network, settings["opt"]), ModelEma(network)
        self.schedule = make_scheduler(self.optimizer, settings["opt"], len(self.loader))
        self.network, self.run, self.clip = network, train_one_epoch, settings["train_cfg"]["clip_grad_l2norm"]

    def epoch(self) -> int:
        """One call of its train_one_epoch, without prints; how many steps."""
        self.run(
            self.loader,
            self.network,
            self.optimizer,
            self.schedule,
            0,
            model_ema=self.average,
            clip_grad_l2norm=self.clip,
            print_freq=10**9,
        )
        return len(self.loader)


def flat_yaml(config: Config) -> str:
    """The same experiment in the published format."""
    import yaml

    data, model, train = config.dataset, config.model, config.train_cfg
    backbone = model.backbone
    return yaml.safe_dump(
        {
            "dataset_name": "thumos",
            "train_split": config.train_split,
            "dataset": {
                "json_file": data.json_file,
                "feat_folder": data.feat_folder,
                "file_prefix": data.file_prefix or None,
                **{key: getattr(data, key) for key in ("file_ext", "num_classes", "input_dim", "max_seq_len")},
                "feat_stride": int(data.feat_stride),
                "num_frames": int(data.num_frames),
            },
            "model": {
                "regression_range": [list(pair) for pair in model.regression_range or ()],
                "backbone_arch": list(backbone.arch),
                "n_mha_win_size": backbone.mha_win_size,
                "n_head": backbone.n_head,
                "embd_dim": backbone.n_embd,
                "fpn_dim": model.fpn_dim,
                "head_dim": model.head_dim,
            },
            "opt": {"learning_rate": config.opt.learning_rate, "weight_decay": config.opt.weight_decay},
            "train_cfg": {"clip_grad_l2norm": train.clip_grad_l2norm, "init_loss_norm": train.init_loss_norm},
        }
    )


def main() -> None:
    """Measure and print; in a worker, serve."""
    parser = arguments(__doc__, runs=3)
    parser.add_argument("config", help="a configuration whose data is there")
    parser.add_argument("--side", choices=("ours", "theirs"), help="used by the benchmark itself")
    options = parser.parse_args()
    config = load_config(options.config)
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            ours = options.side == "ours"
            serve(Ours(config, Path(folder) / "run") if ours else Theirs(config, options.published))
        return
    words = ("benchmarks.epoch", options.config)
    published = ("--published", options.published) if options.published else None
    with closing(Worker(*words, "--side", "ours")) as ours:
        theirs = None if published is None else Worker(*words, *published, "--side", "theirs")
        other = None if theirs is None else lambda: theirs({"work": "epoch"})
        row = compare(
            f"epoch of {Path(options.config).stem}", lambda: ours({"work": "epoch"}), other, options.runs, 1.0
        )
        if theirs is not None:
            theirs.close()
    report([row], options.json)


if __name__ == "__main__":
    sys.exit(main())
