"""Settings of typical use cases: those whose parts exist load; the others are refused for that alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventide.config_loading import load_config
from eventide.config_yaml import ConfigError

V2 = "backbone_type: convTransformerv2"
ALL = "use_rope: true, use_flash_attn: true, use_swiglu: true, use_rms_norm: true"

AVAILABLE = {
    "quick prototyping": "model: {backbone_type: convTransformer}",
    "ablation A": "model: {backbone_type: convTransformer, backbone: {use_abs_pe: true}}",
}
LATER = {
    "production": f"model: {{{V2}, backbone: {{{ALL}}}}}",
    "limited memory": f"{{model: {{{V2}, backbone: {{use_swiglu: false}}}}, loader: {{batch_size: 1}}}}",
    "long video": f"model: {{{V2}, backbone: {{max_len: 8192, use_rope: true, use_abs_pe: false}}}}",
    "deployment": f"model: {{{V2}, backbone: {{n_kv_head: 2, use_swiglu: false}}}}",
    "ablation B": f"model: {{{V2}, backbone: {{use_rope: false, use_swiglu: false, use_abs_pe: true}}}}",
    "point events": f"model: {{meta_arch: SnapFormer, fpn_type: cs_fpn, {V2}, backbone: {{use_rope: true}}}}",
    "noisy labels": (
        f"model: {{meta_arch: TBTFormer, fpn_type: cs_fpn, reg_max: 16, dfl_weight: 0.25,"
        f" {V2}, backbone: {{n_head: 16}}}}"
    ),
    "THUMOS14": (
        f"model: {{{V2}, backbone: {{n_embd: 256, n_head: 4, arch: [2, 2, 5],"
        f" mha_win_size: [-1, -1, -1, -1, -1, -1], {ALL}}}}}"
    ),
    "ActivityNet": f"model: {{{V2}, backbone: {{n_embd: 256, mha_win_size: [9, 9, 9, 9, 9, -1], {ALL}}}}}",
    "EPIC-Kitchens": f"model: {{{V2}, backbone: {{n_embd: 384, n_head: 6, arch: [2, 2, 6], {ALL}}}}}",
    "Ego4D": f"model: {{{V2}, backbone: {{n_embd: 768, n_head: 12, arch: [2, 2, 7], max_len: 4096, {ALL}}}}}",
}


@pytest.mark.parametrize("text", AVAILABLE.values(), ids=AVAILABLE)
def test_available(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", LATER.values(), ids=LATER)
def test_refused_only_because_a_part_does_not_exist_yet(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert all("not available yet" in problem.message for problem in caught.value.problems), str(caught.value)
