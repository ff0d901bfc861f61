"""Gradients, losses and normaliser of a step are the same however it is cut over processes and micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eventide.config import Config
from eventide.engine.world import World
from eventide.models.registry import BUILDERS
from tests.engine.making import tiny_config
from tests.engine.several import work
from tests.engine.several.pool import Pool
from tests.engine.several.work import Cut, Results

pytestmark = pytest.mark.slow

# Five recordings, of which two have no events. In the first step of 1 x 4 everyone has something, in the second there
# is one recording for all.
CUTS = [
    pytest.param(Cut(2, 2), Cut(4, 1), id="a batch each, one recording left"),
    pytest.param(Cut(1, 2), Cut(2, 1), id="batches of one, one left"),
    pytest.param(Cut(1, 4), Cut(4, 1), id="two micro-batches each, one left"),
    pytest.param(Cut(1, 3), Cut(3, 1), id="three, uneven for two processes"),
    pytest.param(Cut(2, 3), Cut(6, 1), id="an uneven group is all there is"),
    pytest.param(Cut(4, 1), Cut(4, 1), id="a batch that is cut up"),
]
VARIANTS: list[tuple[str, dict[str, dict[str, Any]], float]] = [
    ("plain", {}, 0.0),
    ("balanced losses", {"train_cfg": {"loss_weight": 0}}, 0.0),
    ("quality focal loss", {"train_cfg": {"cls_loss": "quality_focal"}}, 0.0),
    ("v2", {"model": {"backbone_type": "convTransformerv2", "fpn_type": "cs_fpn"}}, 0.0),
    ("a teacher", {}, 0.6),
]


def config_of(folder: Path, meta_arch: str, changes: dict[str, dict[str, Any]]) -> Config | None:
    """The tiny configuration without dropout; None where the architecture has no such variant."""
    model = {"meta_arch": meta_arch, "backbone": {"n_embd": 8, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}}
    train = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0, "loss_norm_momentum": 0.5}
    if meta_arch == "SnapFormer" and "train_cfg" in changes:
        return None
    return tiny_config(
        folder, model={**model, **changes.get("model", {})}, train_cfg={**train, **changes.get("train_cfg", {})}
    )


def assert_close(found: list[Results], expected: list[Results], relative: float = 1e-5) -> None:
    """Every tensor of every step, against the largest number in it."""
    assert len(found) == len(expected)
    for step, (results, wanted) in enumerate(zip(found, expected, strict=True)):
        assert results.keys() == wanted.keys()
        largest = max(x.abs().max().item() for name, x in wanted.items() if "." in name)
        for name, tensor in wanted.items():
            bound = relative * (largest if "." in name else max(tensor.abs().max().item(), 1e-3))
            assert (results[name] - tensor).abs().max().item() <= bound, (step, name)


# Every architecture with every cut, and every variant with two of them.
CASES = [
    pytest.param(meta_arch, changes, share, *cut.values, id=f"{meta_arch}, {label}, {cut.id}")
    for meta_arch in sorted(BUILDERS)
    for label, changes, share in VARIANTS
    if meta_arch != "SnapFormer" or label in ("plain", "v2")
    for cut in (CUTS if label == "plain" else CUTS[2:4])
]


@pytest.mark.parametrize(("meta_arch", "changes", "share", "cut", "whole"), CASES)
def test_however_a_step_is_cut(
    tiny_data: Path,
    pair: Pool,
    triple: Pool,
    meta_arch: str,
    changes: dict[str, dict[str, Any]],
    share: float,
    cut: Cut,
    whole: Cut,
) -> None:
    config = config_of(tiny_data, meta_arch, changes)
    assert config is not None
    expected = work.step_gradients(World(), config, whole, share)
    assert all(results["num_positives"] > 0 for results in expected[:1])
    assert_close(work.step_gradients(World(), config, cut, share), expected)
    for pool in (pair, triple):
        by_rank = pool.run(work.step_gradients, config, cut, share)
        assert_close(by_rank[0], expected)
        for other in by_rank[1:]:  # to the bit: they must not drift apart
            assert_close(other, by_rank[0], relative=0.0)


def test_a_step_without_any_event_has_finite_gradients(tiny_data: Path, pair: Pool) -> None:
    config = tiny_config(tiny_data, train_cfg={"droppath": 0.0, "dropout": 0.0})
    found = pair.run(work.step_gradients, config, Cut(1, 1))[0]
    counts = [int(results["num_positives"]) for results in found]
    assert 0 in counts
    assert any(counts)
    for results in found:
        assert all(torch.isfinite(tensor).all() for tensor in results.values())
        assert all(results[name].abs().sum() > 0 for name in results if "cls_head" in name and "weight" in name)


@pytest.mark.parametrize("failing", [work.second_fails_forward, work.second_fails_backward, work.all_fail_backward])
@pytest.mark.parametrize("meta_arch", sorted(BUILDERS))
def test_memory_that_runs_out_in_one_process_changes_nothing(
    tiny_data: Path, pair: Pool, meta_arch: str, failing: Any
) -> None:
    config = config_of(tiny_data, meta_arch, {})
    assert config is not None
    recovering = config.model_copy(update={"train_cfg": config.train_cfg.model_copy(update={"auto_microbatch": True})})
    expected = pair.run(work.step_gradients, config, Cut(2, 2))
    found = pair.run(work.step_gradients, recovering, Cut(2, 2), 0.0, failing)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs)
