"""Which configurations fit a stored model, and splits that hold events of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventide.config import Config
from eventide.engine.predict_files import refuse_other_model
from eventide.types import EventideError

SMALL = {"n_embd": 8, "n_head": 2, "arch": [2, 1, 1]}


def config_of(architecture: str, **model: Any) -> Config:
    values = {"dataset": {"input_dim": 4}, "model": {"meta_arch": architecture, "backbone": SMALL, **model}}
    return Config.model_validate(values).resolve()


SAME = [
    pytest.param("SnapFormer", {"heatmap": {"width": 0.5}}, id="width of targets"),
    pytest.param("SnapFormer", {"heatmap": {"width": {"a": 0.5}, "offset_weight": 2.0}}, id="widths of targets"),
    pytest.param("TBTFormer", {"dfl_weight": 1.0}, id="weight of a loss"),
    pytest.param("LocPointTransformer", {"regression_range": [(0, 8), (8, 100)]}, id="ranges"),
]


@pytest.mark.parametrize(("architecture", "model"), SAME)
def test_what_only_training_reads_is_no_other_model(architecture: str, model: dict[str, Any]) -> None:
    refuse_other_model(config_of(architecture), config_of(architecture, **model), Path("m"), Path("c"))


OTHER = [
    pytest.param("SnapFormer", {"head_num_layers": 2}, "model.head_num_layers was 3 and is now 2", id="heads"),
    pytest.param("TBTFormer", {"reg_max": 8}, "model.reg_max was 16 and is now 8", id="bins"),
]


@pytest.mark.parametrize(("architecture", "model", "message"), OTHER)
def test_other_models_are_refused(architecture: str, model: dict[str, Any], message: str) -> None:
    with pytest.raises(EventideError, match=message):
        refuse_other_model(config_of(architecture), config_of(architecture, **model), Path("m"), Path("c"))


def test_other_architectures_are_refused() -> None:
    with pytest.raises(EventideError, match=r"holds weights of SnapFormer.*asks for LocPointTransformer"):
        refuse_other_model(config_of("SnapFormer"), config_of("LocPointTransformer"), Path("m"), Path("c"))
