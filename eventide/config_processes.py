"""Keys that contradict one another where a model is trained in parts (train_cfg.strategy: fsdp)."""

from __future__ import annotations

from collections.abc import Iterator

from eventide.config import Config
from eventide.config_finding import Finding


def in_parts(config: Config) -> Iterator[Finding]:
    """What a model in parts cannot do."""
    train = config.train_cfg
    if train.strategy != "fsdp":
        return
    if train.auto_microbatch:
        message = "lets a process do its passes again by itself, but with strategy fsdp others must take part in every "
        message += "pass; leave it out and lower loader.batch_size, or use strategy ddp"
        yield Finding(("train_cfg.auto_microbatch", "train_cfg.strategy"), message)
    if train.compile:
        message = (
            "makes one graph per padded length, but a model in parts (strategy fsdp) is compiled block by block, far "
        )
        message += "more graphs than are kept; leave it out, or use strategy ddp"
        yield Finding(("train_cfg.compile", "train_cfg.strategy"), message)
