"""The configurations of the guide's performance table, made from one configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass

from eventide.config import Config
from eventide.config_loading import override_config
from eventide.types import EventideError

V1, V2 = "convTransformer", "convTransformerv2"
SWITCHES = ("use_rope", "use_flash_attn", "use_swiglu", "use_rms_norm")
V2_ONLY = (*SWITCHES, "n_kv_head", "n_hidden")


@dataclass(frozen=True)
class Variant:
    """One row of the table; `guide_time` and `guide_memory` are what the guide says of it, as shares of v1."""

    label: str
    switches: tuple[str, ...] | None  # of v2, those that are on; None is v1
    amp: bool = False
    grouped: bool = False  # keys and values have half as many heads
    compiled: bool = False
    guide_time: float | None = None
    guide_memory: float | None = None


# The first is what the others are compared with.
VARIANTS = (
    Variant("v1", None, guide_time=1.0, guide_memory=1.0),
    Variant("v2, flash attention only", ("use_flash_attn",), guide_time=0.85, guide_memory=0.75),
    Variant("v2, RMSNorm only", ("use_rms_norm",), guide_time=0.93, guide_memory=1.0),
    Variant("v2, SwiGLU only", ("use_swiglu",), guide_time=1.05, guide_memory=1.05),
    Variant("v2, RoPE only", ("use_rope",)),
    Variant("v2, all", SWITCHES, guide_time=0.80, guide_memory=0.75),
    Variant("v2, all + AMP", SWITCHES, amp=True, guide_time=0.45, guide_memory=0.50),
    Variant("v2, all + AMP + GQA", SWITCHES, amp=True, grouped=True),
    Variant("v2, all + AMP + GQA + compile", SWITCHES, amp=True, grouped=True, compiled=True),
)


def variant_config(base: Config, variant: Variant) -> Config:
    """The configuration of a row: sizes, windows and data of `base`, the backbone and switches of the row.

    Raises:
        EventideError: it cannot be made from `base`; says why.
    """
    backbone: dict[str, object] = dict.fromkeys(V2_ONLY)
    if variant.switches is not None:
        backbone |= {name: name in variant.switches for name in SWITCHES}
        backbone |= {"use_rel_pe": False, "n_hidden": base.model.backbone.n_hidden}
        if variant.grouped:
            backbone["n_kv_head"] = grouped_heads(base.model.backbone.n_head)
        if "use_rope" in variant.switches:
            backbone["use_abs_pe"] = False
    values = {f"model.backbone.{name}": value for name, value in backbone.items()}
    values["model.backbone_type"] = V1 if variant.switches is None else V2
    values["train_cfg.compile"] = variant.compiled
    return override_config(base, [f"{name}={json.dumps(value)}" for name, value in values.items()], variant.label)


def grouped_heads(heads: int) -> int:
    """Half of the heads.

    Raises:
        EventideError: half of them is no number of heads.
    """
    if heads % 2:
        raise EventideError(f"model.backbone.n_head is {heads}, which two heads cannot share keys and values of")
    return heads // 2
