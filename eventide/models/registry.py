"""The architectures by name; each is one file of this room that registers its builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from eventide.config import Config
from eventide.models.criterion import SummedCriterion
from eventide.types import Candidates, EventideError, PyramidOutput


class DecodesOutputs(Protocol):
    """Raw outputs to candidates, one entry per sequence of the batch."""

    def __call__(self, output: PyramidOutput) -> list[Candidates]: ...


def _needs_nothing(longest: float) -> None:
    """What most architectures do with the longest event: nothing."""


@dataclass
class Architecture:
    """The three objects of an architecture, and what others must know of it."""

    detector: nn.Module
    criterion: SummedCriterion
    decoder: DecodesOutputs
    strides: list[int]  # of the levels that have heads, in grid steps
    # Called once before training with the longest event of the training data (grid steps), for models whose outputs
    # have a range; what they make of it is in their state_dict.
    set_longest_event: Callable[[float], None] = field(default=_needs_nothing)


BUILDERS: dict[str, Callable[[Config], Architecture]] = {}


def register(name: str) -> Callable[[Callable[[Config], Architecture]], Callable[[Config], Architecture]]:
    """Enters a builder under the name that `model.meta_arch` gives."""

    def enter(builder: Callable[[Config], Architecture]) -> Callable[[Config], Architecture]:
        BUILDERS[name] = builder
        return builder

    return enter


def build(config: Config) -> Architecture:
    """Detector, criterion and decoder of a resolved configuration. Raises EventideError for an architecture that
    does not exist yet.
    """
    if config.model.meta_arch not in BUILDERS:
        raise EventideError(
            f"model.meta_arch: {config.model.meta_arch} is not available yet; there is: {', '.join(sorted(BUILDERS))}"
        )
    return BUILDERS[config.model.meta_arch](config)
