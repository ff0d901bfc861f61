"""How many operations a network takes: two per multiplication of its convolutions, linear maps and attention.

Counted on the meta device, which computes nothing: there every convolution is the direct one, so the count is that of
the network and not of the algorithm (minimal filtering) that a CPU runs it with. Norms, activations and softmax count
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from eventide.config import Config, sum_of
from eventide.layers.attention import ConvAttention
from eventide.models import build

PRODUCT_OPERATORS = ("bmm", "attention")  # parts of the names of operators that multiply queries, keys and values


@dataclass(frozen=True)
class Operations:
    """Operations of a forward pass, or of forward and backward."""

    total: int
    attention: int  # in the attention modules: their convolutions, linear maps and products
    products: int  # of these, scores and weighted values


def count_operations(config: Config, length: int, batch: int = 1, training: bool = False) -> Operations:
    """Operations of a pass over `batch` sequences of `length` vectors; with `training` forward and backward, and
    forward once more where the averaged model teaches.
    """
    detector = build(config).detector.to("meta").train(training).requires_grad_(training)
    features = torch.empty(batch, sum_of(config.dataset.input_dim), length, device="meta")
    counter = _counter()
    with torch.set_grad_enabled(training), counter:
        output = detector(features, None)
        if training:
            sum(level.sum() for level in [*output.logits, *output.offsets]).backward()
            if config.resolve().train_cfg.teacher_share:
                with torch.no_grad():
                    detector(features, None)
    counts = counter.get_flop_counts()
    attention = [name for name, module in detector.named_modules() if isinstance(module, ConvAttention)]
    within = [counts.get(f"{type(detector).__name__}.{name}", {}) for name in attention]
    return Operations(
        counter.get_total_flops(), sum(sum(part.values()) for part in within), sum(_products(part) for part in within)
    )


def operations_done(work: Callable[[], object]) -> int:
    """Operations that a call does on a real device, whatever algorithm it chose."""
    with _counter() as counter:
        work()
    return counter.get_total_flops()


def count_parameters(module: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(parameter.numel() for parameter in module.parameters())


def _counter() -> FlopCounterMode:
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_operations}
    )


def _convolution_backward_operations(
    gradient: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Any = None, **_: Any
) -> int:
    """As many as forward for each of the gradients of input and weight that is asked for.

    Torch's own formula takes a grouped convolution's weight gradient for that of a full one.
    """
    wanted = rest[-1][:2]
    return 2 * prod(gradient) * prod(weight[1:]) * sum(map(bool, wanted))


def _products(counts: Mapping[object, int]) -> int:
    return sum(count for operator, count in counts.items() if any(part in str(operator) for part in PRODUCT_OPERATORS))
