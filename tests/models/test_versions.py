"""Backbone v1 and v2 as whole models: equal with the switches off, alike where a switch changes speed only."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eventide.layers import pieces
from eventide.models import Architecture, build
from eventide.models.parts import build_backbone
from tests import references

from .making import CHANNELS, CLASSES, build_random, pad_together, small_config
from .test_every_architecture import VARIANTS

V2 = {"model__backbone_type": "convTransformerv2"}
SWITCHES = ("use_rope", "use_flash_attn", "use_swiglu", "use_rms_norm")
OFF = {f"model__backbone__{switch}": False for switch in SWITCHES}
# v1 computes with the fused kernels, which are not a matter of architecture: `use_flash_attn` may be on.
FUSED = {**V2, **OFF, "model__backbone__use_flash_attn": True}
WINDOWS: list[Any] = [-1, 5, [9, -1, 3]]


def sequences(count: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return pad_together([torch.randn(CHANNELS, 90 - 30 * row, generator=generator) for row in range(count)])


def train_a_little(architecture: Architecture, steps: int = 4) -> list[float]:
    """Losses of some steps on two sequences; drop path draws from torch's generator."""
    detector, criterion = architecture.detector.train(), architecture.criterion.train()
    features, mask = sequences()
    segments = torch.tensor([[[3.0, 9.0], [20.0, 27.0], [30.0, 52.0]], [[2.0, 30.0], [33.0, 41.0], [44.0, 58.0]]])
    label_ids = torch.tensor([[0, 1, 2], [2, 1, -1]])
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    losses = []
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(detector(features, mask), segments, label_ids)["final_loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def seeded(**changes: Any) -> Architecture:
    torch.manual_seed(0)
    return build(small_config(**changes))


def all_outputs(detector: nn.Module, features: Tensor, mask: Tensor | None) -> list[Tensor]:
    output = detector(features, mask)
    return [*output.logits, *output.offsets]


@pytest.mark.parametrize("use_abs_pe", [False, True], ids=["no positions", "absolute positions"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_v2_with_its_switches_off_is_v1(window: Any, use_abs_pe: bool) -> None:
    """The same parameters, outputs bit for bit, and the same weights after some steps of training."""
    shared = {
        "model__backbone__mha_win_size": window,
        "model__backbone__use_abs_pe": use_abs_pe,
        "train_cfg__droppath": 0.1,
    }
    first, second = seeded(**shared), seeded(**FUSED, **shared)
    ours, theirs = first.detector.state_dict(), second.detector.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    features, mask = sequences()
    for found, expected in zip(
        *(all_outputs(model.detector.eval(), features, mask) for model in (first, second)), strict=True
    ):
        assert torch.equal(found, expected)
    assert train_a_little(first) == train_a_little(second)
    ours, theirs = first.detector.state_dict(), second.detector.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_v2_with_plain_matrices_is_v1_but_for_rounding(window: Any) -> None:
    shared = {"model__backbone__mha_win_size": window, "train_cfg__droppath": 0.1}
    first, second = seeded(**shared), seeded(**V2, **OFF, **shared)
    assert list(first.detector.state_dict()) == list(second.detector.state_dict())
    features, mask = sequences()
    for found, expected in zip(
        *(all_outputs(model.detector.eval(), features, mask) for model in (first, second)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert train_a_little(first) == pytest.approx(train_a_little(second), rel=1e-4)


@pytest.mark.parametrize(
    ("window", "shared_heads", "rotary"), list(product(WINDOWS, [4, 2, 1], [False, True])), ids=str
)
def test_flash_attention_changes_nothing(window: Any, shared_heads: int, rotary: bool) -> None:
    """Outputs within 1e-5 and gradients within 1e-4 of the plain matrix form."""
    results = []
    for flash in (False, True):
        config = small_config(
            **V2,
            model__backbone__mha_win_size=window,
            model__backbone__n_head=4,
            model__backbone__n_kv_head=shared_heads,
            model__backbone__use_rope=rotary,
            model__backbone__use_flash_attn=flash,
        )
        detector = build_random(config).detector
        outputs = all_outputs(detector, *sequences())
        generator = torch.Generator().manual_seed(1)
        loss = torch.stack([(x * torch.randn(x.shape, generator=generator)).sum() for x in outputs]).sum()
        names, parameters = zip(*detector.named_parameters(), strict=True)
        results.append((outputs, torch.autograd.grad(loss, parameters)))
    (plain, plain_gradients), (flashed, gradients) = results
    for found, expected in zip(flashed, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    references.assert_gradients_close(gradients, [x.double() for x in plain_gradients], names.__getitem__)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_is_its_own(switch: str) -> None:
    """On alone, it changes what it should: parameters for two of them, outputs for all but flash attention."""
    plain = build_random(small_config(**V2, **OFF)).detector
    other = build_random(small_config(**V2, **{**OFF, f"model__backbone__{switch}": True})).detector
    same_parameters = list(plain.state_dict()) == list(other.state_dict())
    assert same_parameters == (switch in ("use_rope", "use_flash_attn"))
    if same_parameters:
        other.load_state_dict(plain.state_dict())
        with torch.no_grad():
            before, after = (all_outputs(model, *sequences())[0] for model in (plain, other))
        assert ((after - before).abs().max() > 1e-3) == (switch == "use_rope")


@pytest.mark.parametrize("width", [32, 64, 128, 256, 512])
def test_swiglu_keeps_the_number_of_parameters(width: int) -> None:
    counts = []
    with torch.device("meta"):
        for gated in (False, True):
            backbone = build_backbone(
                small_config(**V2, model__backbone__n_embd=width, model__backbone__use_swiglu=gated)
            )
            counts.append(sum(p.numel() for p in backbone.parameters()))
    assert abs(counts[1] / counts[0] - 1) < 0.02


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_n_hidden_and_n_kv_head_set_the_shapes(gated: bool) -> None:
    changes = {
        "model__backbone__n_head": 4,
        "model__backbone__n_kv_head": 2,
        "model__backbone__n_hidden": 20,
        "model__backbone__use_swiglu": gated,
    }
    detector = build(small_config(**V2, **changes)).detector
    shapes = {name: tuple(parameter.shape) for name, parameter in detector.named_parameters()}
    for room in ("backbone.stem.0", "backbone.branch.0", "backbone.branch.1"):
        assert shapes[f"{room}.attn.query.weight"] == (16, 16, 1)
        assert shapes[f"{room}.attn.key.weight"] == shapes[f"{room}.attn.value.weight"] == (8, 16, 1)
        assert shapes[f"{room}.mlp.{'inner' if gated else '0'}.weight"] == (40 if gated else 20, 16, 1)
        assert shapes[f"{room}.mlp.{'outer' if gated else '3'}.weight"] == (16, 20, 1)


@pytest.mark.parametrize("backbone", ["convTransformer", "convTransformerv2"])
@pytest.mark.parametrize("length", [10, 48, 49, 96, 200])
def test_absolute_positions_beyond_max_len_are_interpolated(backbone: str, length: int) -> None:
    """What is added to features of zero is the table as far as it reaches, else the table stretched to the length."""
    config = small_config(
        model__backbone_type=backbone,
        dataset__max_seq_len=48,
        model__backbone__use_abs_pe=True,
        model__backbone__arch=(1, 0, 1),
        model__backbone__embd_with_ln=False,
    )
    detector = build(config).detector
    added: list[Tensor] = []
    first = detector.backbone.branch[0]
    first.register_forward_pre_hook(lambda _, inputs: added.append(inputs[0]))
    with torch.no_grad():
        for conv in detector.backbone.embd:
            nn.init.zeros_(conv.conv.weight)
        detector.eval()(torch.zeros(1, CHANNELS, length))
    table = detector.backbone.pos_embd
    assert table.shape[0] == 48
    expected = table[:length]
    if length > 48:
        stretched = nn.functional.interpolate(table.t()[None], size=length, mode="linear", align_corners=False)
        expected = stretched[0].t()
    torch.testing.assert_close(added[0][0], expected, rtol=1e-5, atol=1e-6)


def test_rotary_positions_have_no_limit() -> None:
    """Beyond `max_len` a windowed model sees what it sees within it: far from the ends, the same outputs."""
    config = small_config(**V2, dataset__max_seq_len=48)
    detector = build_random(config).detector
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(1, CHANNELS, 40, generator=generator)
    with torch.no_grad():
        logits = detector(pattern.repeat(1, 1, 30)).logits
    for level, x in enumerate(logits):
        period = 40 // 2**level
        middle = x[:, 10 * period : 11 * period]
        later = x[:, 20 * period : 21 * period]
        torch.testing.assert_close(middle, later, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [-1, 5])
@pytest.mark.parametrize("kind", ["convTransformer", "v2", "v2, plain matrices", "v2, shared heads"])
def test_mixed_precision_agrees_with_float32(kind: str, window: int) -> None:
    """Outputs and gradients of the whole model under bfloat16 autocast, in the norm."""
    changes: dict[str, Any] = {} if kind == "convTransformer" else dict(V2)
    if kind == "v2, plain matrices":
        changes["model__backbone__use_flash_attn"] = False
    if kind == "v2, shared heads":
        changes["model__backbone__n_kv_head"] = 1
    detector = build_random(small_config(**changes, model__backbone__mha_win_size=window)).detector
    results = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            outputs = all_outputs(detector, *sequences())
        loss = torch.stack([(x.float() ** 2).sum() for x in outputs]).sum()
        gradients = torch.autograd.grad(loss, list(detector.parameters()))
        results.append([torch.cat([x.float().flatten() for x in part]) for part in (outputs, gradients)])
    for full, half in zip(*results, strict=True):
        assert half.isfinite().all()
        assert (half - full).norm() <= 0.05 * full.norm()


@pytest.mark.parametrize("mode", ["one sequence", "a ragged batch", "published padding"])
@pytest.mark.parametrize("name", VARIANTS)
def test_long_sequences_in_pieces_give_the_same(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = dict(VARIANTS[name])
    if mode == "published padding":
        changes |= {"dataset__max_seq_len": 288, "model__backbone__padding": "published"}
    detector = build_random(small_config(**changes)).detector
    generator = torch.Generator().manual_seed(0)
    lengths = [301] if mode == "one sequence" else [301, 188, 1]
    features, mask = pad_together([torch.randn(CHANNELS, length, generator=generator) for length in lengths])
    given = features.clone()
    with torch.no_grad():
        expected = all_outputs(detector, features, None if mode == "one sequence" else mask)
        monkeypatch.setattr(pieces, "ROWS_AT_ONCE", 40)
        found = all_outputs(detector, features, None if mode == "one sequence" else mask)
    assert found[0].shape[2] == CLASSES
    assert torch.equal(features, given)  # a single recording's are the user's own array
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
