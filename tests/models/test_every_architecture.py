"""What every registered architecture must do, in every variant of backbone and neck, without being named here."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from eventide.models import BUILDERS, build
from eventide.types import PyramidOutput

from .making import CHANNELS, CLASSES, build_random, pad_together, small_config

VARIANTS: dict[str, dict[str, Any]] = {
    "windows": {},
    "full attention": {"model__backbone__mha_win_size": -1},
    "windows and full, relative positions": {
        "model__backbone__mha_win_size": [9, -1, 3],
        "model__backbone__use_rel_pe": True,
    },
    "absolute positions": {"model__backbone__use_abs_pe": True},
    "fpn": {"model__fpn_type": "fpn", "model__fpn_dim": 12, "model__head_dim": 8, "model__head_kernel_size": 5},
    "start level 1": {"model__fpn_type": "fpn", "model__fpn_start_level": 1},
    "cs_fpn": {"model__fpn_type": "cs_fpn", "model__fpn_dim": 12, "model__head_kernel_size": 5},
    "cs_fpn, start level 1, no norm": {
        "model__fpn_type": "cs_fpn",
        "model__fpn_start_level": 1,
        "model__fpn_with_ln": False,
    },
    "cs_fpn, convolutions, one level": {
        "model__fpn_type": "cs_fpn",
        "model__fpn_start_level": 2,
        "model__backbone_type": "conv",
    },
    "cs_fpn, levels a quarter as long": {
        "model__fpn_type": "cs_fpn",
        "model__backbone__scale_factor": 4,
        "model__backbone__mha_win_size": 3,
    },
    "convolutions only": {"model__backbone_type": "conv", "model__fpn_type": "fpn"},
    "no norms, no stem": {
        "model__backbone__embd_with_ln": False,
        "model__fpn_with_ln": False,
        "model__head_with_ln": False,
        "model__backbone__arch": (1, 0, 2),
    },
    "no stem": {"model__backbone__arch": (1, 0, 2)},
    "two streams, drop path": {
        "dataset__input_dim": [CHANNELS - 5, 5],
        "model__backbone__n_embd": [10, 6],
        "train_cfg__droppath": 0.1,
    },
    "wide enough for minimal filtering": {"model__backbone__n_embd": 64, "model__backbone__n_head": 4},
    "one layer heads": {"model__head_num_layers": 1},
}
V2 = {"model__backbone_type": "convTransformerv2"}
OFF = {f"model__backbone__use_{switch}": False for switch in ("rope", "flash_attn", "swiglu", "rms_norm")}
VARIANTS |= {
    "v2": V2,
    "v2, cs_fpn": {**V2, "model__fpn_type": "cs_fpn"},
    "v2, full attention": {**V2, "model__backbone__mha_win_size": -1},
    "v2, all off": {**V2, **OFF},
    "v2, all off, full attention": {**V2, **OFF, "model__backbone__mha_win_size": -1},
    "v2, shared heads": {**V2, "model__backbone__n_head": 4, "model__backbone__n_kv_head": 2},
    "v2, one shared head, full and windows": {
        **V2,
        "model__backbone__n_head": 4,
        "model__backbone__n_kv_head": 1,
        "model__backbone__mha_win_size": [-1, 9, 3],
    },
    "v2, rotary only": {**V2, **OFF, "model__backbone__use_rope": True},
    "v2, absolute positions, own width": {
        **V2,
        **OFF,
        "model__backbone__use_abs_pe": True,
        "model__backbone__n_hidden": 20,
    },
}
LENGTHS = [1, 2, 3, 4, 5, 9, 17, 32, 33, 143, 144, 145, 301]


@pytest.fixture(params=sorted(BUILDERS))
def meta_arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


def all_values(output: PyramidOutput) -> list[torch.Tensor]:
    """Every tensor of an output that has a value per position."""
    return [*output.logits, *output.offsets, *(output.distributions or [])]


@pytest.mark.parametrize("padding", ["own", "published"])
def test_padding_and_batch_change_nothing(meta_arch: str, variant: dict[str, Any], padding: str) -> None:
    """Alone, among others, padded further, with garbage in the padding: the same outputs, whatever the length."""
    if padding == "published":
        variant["dataset__max_seq_len"] = 288  # which all windows and strides divide, as the published code demands
    detector = build_random(small_config(meta_arch, model__backbone__padding=padding, **variant)).detector
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randn(CHANNELS, length, generator=generator) for length in LENGTHS]
    with torch.no_grad():
        alone = [detector(x.unsqueeze(0)) for x in sequences]
        padded_more = [detector(*pad_together([x], extra=7)) for x in sequences]
        together = detector(*pad_together(sequences, extra=3, filling=float("nan")))
    for row, own in enumerate(alone):
        place = f"sequence of length {LENGTHS[row]}"
        for other, index in ((padded_more[row], 0), (together, row)):
            for ours, theirs in zip(all_values(own), all_values(other), strict=True):
                found = theirs[index, : ours.shape[1]]
                torch.testing.assert_close(found, ours[0], rtol=1e-5, atol=1e-5, msg=(place + ": {}").format)
            for mine, theirs in zip(own.masks, other.masks, strict=True):
                assert mine.sum() == theirs[index].sum() == mine.numel()


def test_output_shapes(meta_arch: str, variant: dict[str, Any]) -> None:
    architecture = build_random(small_config(meta_arch, **variant))
    output = architecture.detector(torch.randn(2, CHANNELS, 37))
    expected = [-(-37 // stride) for stride in architecture.strides]
    assert [x.shape[1:] for x in output.logits] == [(length, CLASSES) for length in expected]
    assert [x.shape[:2] for x in output.masks] == [(2, length) for length in expected]


def test_no_wait_for_the_device(meta_arch: str, variant: dict[str, Any]) -> None:
    """Tensors on the meta device have no values: any step that reads one on the host raises."""
    architecture = build(small_config(meta_arch, **variant))
    detector, criterion = architecture.detector.to("meta").train(), architecture.criterion.to("meta").train()
    features = torch.empty(3, CHANNELS, 50, device="meta")
    for mask in (None, torch.ones(3, 50, dtype=torch.bool, device="meta")):
        output = detector(features, mask)
        segments = torch.empty(3, 4, 2, device="meta")
        losses = criterion(output, segments, torch.empty(3, 4, dtype=torch.int64, device="meta"))
        losses["final_loss"].backward()
        assert losses["final_loss"].device.type == "meta"


def test_all_parameters_learn(meta_arch: str, variant: dict[str, Any]) -> None:
    architecture = build_random(small_config(meta_arch, **variant))
    features, mask = pad_together([torch.randn(CHANNELS, 60), torch.randn(CHANNELS, 41)])
    segments = torch.tensor([[[3.0, 9.0], [20.0, 27.0], [30.0, 52.0]]]).expand(2, 3, 2).clone()
    label_ids = torch.tensor([[0, 1, 2], [2, 1, -1]])
    losses = architecture.criterion.train()(architecture.detector.train()(features, mask), segments, label_ids)
    losses["final_loss"].backward()
    for name, parameter in architecture.detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_state_goes_through_a_file(meta_arch: str, variant: dict[str, Any]) -> None:
    config = small_config(meta_arch, **variant)
    first, second = build_random(config, seed=1), build_random(config, seed=2)
    file = io.BytesIO()
    torch.save(first.detector.state_dict(), file)
    file.seek(0)
    second.detector.load_state_dict(torch.load(file, weights_only=True))
    features = torch.randn(1, CHANNELS, 300)
    with torch.no_grad():
        second.detector(features)  # fills what an evaluation may keep
        outputs = first.detector(features), second.detector(features)
        for expected, found in zip(*(all_values(output) for output in outputs), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_changed_weights_are_seen_in_evaluation(meta_arch: str) -> None:
    """Evaluation keeps transformed kernels; a change of the weights in place must be noticed."""
    detector = build_random(small_config(meta_arch, model__backbone__n_embd=64)).detector
    features = torch.randn(1, CHANNELS, 300)
    with torch.no_grad():
        before = detector(features).logits[0]
        for parameter in detector.parameters():
            parameter.mul_(1.1)
        after = detector(features).logits[0]
        detector.train()
        detector.eval()
        torch.testing.assert_close(after, detector(features).logits[0])
    assert (after - before).abs().max() > 1e-3
