"""The rows of the guide's table differ in what they say they differ in, and in nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from eventide.engine.measure.variants import SWITCHES, VARIANTS, Variant, grouped_heads, variant_config
from eventide.models import build
from eventide.types import EventideError
from tests.models.making import small_config

BASES: dict[str, dict[str, Any]] = {
    "v1": {},
    "v1, positions and bias": {"model__backbone__use_abs_pe": True, "model__backbone__use_rel_pe": True},
    "v2": {"model__backbone_type": "convTransformerv2", "model__backbone__n_hidden": 24},
    "v2, some off": {"model__backbone_type": "convTransformerv2", "model__backbone__use_swiglu": False},
}


def test_the_table_is_that_of_the_guide() -> None:
    guide = {variant.label: (variant.guide_time, variant.guide_memory) for variant in VARIANTS}
    assert guide["v1"] == (1.0, 1.0)
    assert guide["v2, flash attention only"] == (0.85, 0.75)
    assert guide["v2, RMSNorm only"] == (0.93, 1.0)
    assert guide["v2, SwiGLU only"] == (1.05, 1.05)
    assert guide["v2, all"] == (0.80, 0.75)
    assert guide["v2, all + AMP"] == (0.45, 0.50)
    assert [variant.amp for variant in VARIANTS[-4:]] == [False, True, True, True]
    assert [variant.compiled for variant in VARIANTS[-3:]] == [False, False, True]


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
@pytest.mark.parametrize("variant", VARIANTS, ids=[variant.label for variant in VARIANTS])
def test_configurations(base: dict[str, Any], variant: Variant) -> None:
    before = small_config(**base)
    backbone = variant_config(before, variant).model.backbone
    if variant.switches is None:
        assert {getattr(backbone, name) for name in (*SWITCHES, "n_kv_head", "n_hidden")} == {None}
        assert backbone.use_rel_pe == before.model.backbone.use_rel_pe
    else:
        assert {name for name in SWITCHES if getattr(backbone, name)} == set(variant.switches)
        assert backbone.n_kv_head == (1 if variant.grouped else 2)
        assert not backbone.use_rel_pe
    assert variant_config(before, variant).train_cfg.compile == variant.compiled
    assert before == small_config(**base)  # left as it was


def test_v1_and_v2_have_the_same_sizes() -> None:
    sizes = {}
    for variant in VARIANTS:
        config = variant_config(small_config(model__backbone__n_embd=64, model__backbone__n_head=4), variant)
        sizes[variant.label] = sum(p.numel() for p in build(config).detector.parameters())
    assert sizes["v1"] == sizes["v2, flash attention only"] == sizes["v2, RoPE only"]
    assert sizes["v2, SwiGLU only"] == pytest.approx(sizes["v1"], rel=0.02)
    assert sizes["v2, RMSNorm only"] < sizes["v1"]
    assert sizes["v2, all + AMP + GQA"] < sizes["v2, all"] == sizes["v2, all + AMP"]


@pytest.mark.parametrize(("heads", "shared"), [(2, 1), (4, 2), (16, 8)])
def test_half_the_heads(heads: int, shared: int) -> None:
    assert grouped_heads(heads) == shared


@pytest.mark.parametrize("heads", [1, 3])
def test_heads_that_cannot_be_halved(heads: int) -> None:
    with pytest.raises(EventideError, match=f"n_head is {heads}"):
        grouped_heads(heads)


def test_a_base_that_fits_no_variant() -> None:
    config = small_config(model__backbone__n_head=1)
    with pytest.raises(EventideError, match="n_head is 1"):
        variant_config(config, next(variant for variant in VARIANTS if variant.grouped))
