"""Ways to choose losses that do not go together."""

from __future__ import annotations

from tests.errors.cases_config import case
from tests.errors.error_case import ErrorCase

CASES: list[ErrorCase] = [
    case(
        "smoothing of quality",
        "combined quality focal loss with label smoothing",
        "train_cfg: {cls_loss: quality_focal, label_smoothing: 0.1}",
        r"c\.yaml:1.*label_smoothing.*targets are soft already; leave it out",
    ),
    case(
        "boundary loss of points",
        "chose a boundary loss for point events",
        "model: {meta_arch: SnapFormer}\ntrain_cfg: {reg_loss: eiou}",
        r"c\.yaml:2.*reg_loss.*is for segments",
    ),
    case(
        "unknown loss",
        "misspelled a loss",
        "train_cfg: {reg_loss: dio}",
        r"c\.yaml:1.*reg_loss.*diou",
    ),
]
