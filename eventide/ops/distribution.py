"""Distances as distributions over evenly spaced knots (Li et al., Generalized Focal Loss, NeurIPS 2020, section 3.2).

K knots lie at 0, span / (K - 1), ..., span: the decoded expectation and the target of the loss use this one scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Five places of a standard normal variable and the shares of their values in a mean.
_QUADRATURE = np.polynomial.hermite_e.hermegauss(5)
_QUADRATURE = _QUADRATURE[0], _QUADRATURE[1] / _QUADRATURE[1].sum()


def expectation(logits: Tensor, span: Tensor) -> Tensor:
    """Mean distance (...) of logits (..., K), in the unit of `span`, a scalar tensor; float32."""
    probability = logits.float().softmax(-1)
    return (probability * _knots(logits)).sum(-1) * (span / (logits.shape[-1] - 1))


def standard_deviation(logits: Tensor, span: Tensor) -> Tensor:
    """Standard deviation (...) of logits (..., K), in the unit of `span`; float32."""
    probability, knots = logits.float().softmax(-1), _knots(logits)
    mean = (probability * knots).sum(-1, keepdim=True)
    variance = (probability * (knots - mean) ** 2).sum(-1)
    return variance.sqrt() * (span / (logits.shape[-1] - 1))


def quantiles(logits: Tensor, span: Tensor, levels: Sequence[float]) -> Tensor:
    """Distances (..., Q) below which the shares `levels` of the mass of logits (..., K) lie; float32.

    The mass of a knot is spread evenly to halfway between its neighbours, so that quantiles move smoothly.
    """
    probability = logits.float().softmax(-1)
    knots = _knots(logits)
    mass = torch.cat((torch.zeros_like(probability[..., :1]), probability.cumsum(-1)), dim=-1)
    edges = torch.cat((knots[:1], 0.5 * (knots[1:] + knots[:-1]), knots[-1:]))
    wanted = torch.tensor(list(levels), device=logits.device).expand(*mass.shape[:-1], len(levels))
    cell = (torch.searchsorted(mass[..., 1:].contiguous(), wanted.contiguous())).clamp(max=logits.shape[-1] - 1)
    before, inside = mass.gather(-1, cell), probability.gather(-1, cell)
    share = ((wanted - before) / inside.clamp(min=1e-12)).clamp(0.0, 1.0)
    return torch.lerp(edges[cell], edges[cell + 1], share) * (span / (logits.shape[-1] - 1))


def wide_focal_loss(logits: Tensor, targets: Tensor, span: Tensor, width: Tensor | float) -> Tensor:
    """Mean of `distribution_focal_loss` over normal errors of the targets with standard deviation `width`, in the unit
    of `span`: a label is a draw around the truth, and the pull towards it fades the nearer a prediction comes.

    By Gauss-Hermite quadrature. The width shrinks near both ends of the span, so that no target is cut off there and
    their mean stays where it is.
    """
    places, shares = _QUADRATURE
    room = torch.minimum(targets, span - targets).clamp(min=0.0) / float(places.max())
    width = torch.minimum(room, torch.as_tensor(width, device=room.device).expand_as(room))
    losses = [
        share * distribution_focal_loss(logits, targets + place * width, span)
        for place, share in zip(places.tolist(), shares.tolist(), strict=True)
    ]
    return torch.stack(losses).sum(0)


def distribution_focal_loss(logits: Tensor, targets: Tensor, span: Tensor) -> Tensor:
    """Distribution focal loss (Generalized Focal Loss, eq. 6), float32: cross-entropy with the two knots around a
    target, each by its nearness.

    Logits (..., K), `targets` (...) distances in the unit of `span` (broadcast); those beyond the last knot count as
    at it.
    """
    last = logits.shape[-1] - 1
    place = (targets.float() / span * last).clamp(0.0, float(last))
    left = place.floor().clamp(max=last - 1)
    to_right = place - left
    index = left.long().unsqueeze(-1)
    log_probability = F.log_softmax(logits.float(), dim=-1)
    at_left = log_probability.gather(-1, index).squeeze(-1)
    at_right = log_probability.gather(-1, index + 1).squeeze(-1)
    return -((1 - to_right) * at_left + to_right * at_right)


def _knots(logits: Tensor) -> Tensor:
    return torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
