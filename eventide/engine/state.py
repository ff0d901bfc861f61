"""All that changes during a training, in one object that can be saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from eventide.engine.ema import WeightAverage
from eventide.engine.meters import EpochMeter, LossMeter
from eventide.models.criterion import SummedCriterion


@dataclass
class Counters:
    """Where a training is. A step that was skipped counts as a step: the data and the schedule go on."""

    step: int = 0  # optimiser steps done
    bad_in_a_row: int = 0  # skipped steps since the last good one
    bad_total: int = 0
    evaluated_epoch: int = 0  # epochs done at the last evaluation
    best_metric: float | None = None
    best_epoch: int = 0


class TrainingState:
    """Model, loss normaliser, averaged weights, optimiser, loss scale and counters.

    There is no random state in it: every micro-batch seeds its own from the run's seed and its number.
    """

    def __init__(
        self,
        detector: nn.Module,
        criterion: SummedCriterion,
        average: WeightAverage,
        optimizer: Optimizer,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.detector, self.criterion, self.average = detector, criterion, average
        self.optimizer, self.scaler = optimizer, scaler
        self.counters, self.losses, self.epoch = Counters(), LossMeter(), EpochMeter()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers only."""
        return {
            "model": self.detector.state_dict(),
            "criterion": self.criterion.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "counters": asdict(self.counters),
            "losses": self.losses.state_dict(),
            "epoch": self.epoch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` gave; tensors move to the device of the model."""
        self.detector.load_state_dict(state["model"])
        self.criterion.load_state_dict(state["criterion"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.counters = Counters(**state["counters"])
        device = next(self.detector.parameters()).device
        self.losses.load_state_dict(state["losses"], device)
        if "epoch" in state:  # older checkpoints have none
            self.epoch.load_state_dict(state["epoch"], device)
