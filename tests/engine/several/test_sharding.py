"""Models in parts: the same gradients, weights, evaluations and files as whole ones, with a share of the memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from eventide.config import Config
from eventide.engine.checkpoint import list_checkpoints, load_checkpoint
from eventide.engine.model_file import load_model
from eventide.engine.world import World
from eventide.models.registry import BUILDERS
from tests.engine.making import all_tensors, tiny_config, write_config
from tests.engine.several import parts, work
from tests.engine.several.pool import Pool, free_port
from tests.engine.several.test_gradients import CUTS, VARIANTS, assert_close, config_of
from tests.engine.several.work import Cut, Results

pytestmark = pytest.mark.slow

SGD = {"type": "SGD", "learning_rate": 0.01, "epochs": 3, "warmup_epochs": 1}
ADAMW = {**SGD, "type": "AdamW"}
QUIET = {"droppath": 0.0, "dropout": 0.0, "init_loss_norm": 5.0}
DROPOUT = {"droppath": 0.2, "dropout": 0.2, "init_loss_norm": 5.0}
CASES = [
    pytest.param(meta_arch, changes, share, id=f"{meta_arch}, {label}")
    for meta_arch in sorted(BUILDERS)
    for label, changes, share in VARIANTS
    if meta_arch != "SnapFormer" or label in ("plain", "v2")
]
ROOT = Path(__file__).resolve().parents[3]


def without_norms(found: list[Results]) -> list[Results]:
    return [{name: tensor for name, tensor in results.items() if name != "norm"} for results in found]


def assert_same_steps(pools: list[Pool], config: Config, cut: Cut, whole: Cut, *more: Any) -> None:
    """Every process of every pool finds the gradients, losses and norm of one process with the `whole` step."""
    expected = work.step_gradients(World(), config, whole, *more[:1])
    norms = [sum(x.square().sum() for name, x in step.items() if "." in name).sqrt() for step in expected]  # type: ignore[union-attr]
    for pool in pools:
        by_rank = pool.run(parts.step_gradients, config, cut, *more)
        assert_close(without_norms(by_rank[0]), expected)
        for results, norm in zip(by_rank[0], norms, strict=True):
            torch.testing.assert_close(results["norm"], norm, rtol=1e-5, atol=0)
        for other in by_rank[1:]:  # to the bit: they must not drift apart
            assert_close(other, by_rank[0], relative=0.0)


@pytest.mark.parametrize(("meta_arch", "changes", "share"), CASES)
def test_gradients_of_every_architecture(
    tiny_data: Path,
    pair: Pool,
    triple: Pool,
    meta_arch: str,
    changes: dict[str, dict[str, Any]],
    share: float,
) -> None:
    config = config_of(tiny_data, meta_arch, changes)
    assert config is not None
    assert_same_steps([pair, triple], config, Cut(1, 4), Cut(4, 1), share)  # the second step is one recording for all


@pytest.mark.parametrize(("cut", "whole"), CUTS[1:])
def test_gradients_however_a_step_is_cut(tiny_data: Path, pair: Pool, triple: Pool, cut: Cut, whole: Cut) -> None:
    config = config_of(tiny_data, "LocPointTransformer", {"train_cfg": {"loss_weight": 0}})
    assert config is not None
    assert_same_steps([pair, triple], config, cut, whole)


@pytest.mark.parametrize("backbone", ["conv", "convTransformer", "convTransformerv2"])
def test_passes_without_gradients_in_uneven_pieces(tiny_data: Path, pair: Pool, backbone: str) -> None:
    """A teacher, and weights from a pass of its own: processes cut their sequences into different numbers of pieces."""
    changes = {"train_cfg": {"loss_weight": 0}, "model": {"backbone_type": backbone}}
    config = config_of(tiny_data, "LocPointTransformer", changes)
    assert config is not None
    assert_same_steps([pair], config, Cut(2, 2), Cut(4, 1), 0.6, 8)


def in_parts(folder: Path, train: dict[str, Any], **changes: dict[str, Any]) -> Config:
    return tiny_config(folder, train_cfg={**train, "strategy": "fsdp"}, **{"opt": SGD, **changes})


def whole(folder: Path, train: dict[str, Any], **changes: dict[str, Any]) -> Config:
    return tiny_config(folder, train_cfg=train, **{"opt": SGD, **changes})


def stored(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """All tensors of the newest checkpoint of a run."""
    content = load_checkpoint(list_checkpoints(folder / "runs" / f"tiny_{name}" / "checkpoints")[0])
    return {name: tensor for name, tensor in all_tensors(content).items() if not name.startswith("/losses")}


def assert_same_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], bound: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=bound, atol=bound, msg=name)


def train_alone(folder: Path, config: Config, name: str, **options: Any) -> dict[str, Any]:
    return parts.training(World(), config, folder, name, options)


@pytest.mark.parametrize("size", [2, 3])
def test_a_whole_training(tiny_data: Path, tmp_path: Path, pair: Pool, triple: Pool, size: int) -> None:
    pool = pair if size == 2 else triple
    config = in_parts(tiny_data, DROPOUT)
    results = pool.run(parts.training, config, tmp_path, "parts", {"eval_freq": 1})
    train_alone(tmp_path, whole(tiny_data, {**DROPOUT, "accum_steps": size}), "alone", eval_freq=1)
    tensors = stored(tmp_path, "parts")
    assert_same_tensors(tensors, stored(tmp_path, "alone"))
    assert all(result["counters"] == results[0]["counters"] for result in results)
    names = [name for result in results for name in result["evaluated"]]
    assert sorted(names) == sorted(["rec5", "rec6", "rec7"] * 4)
    run = tmp_path / "runs" / "tiny_parts"
    last = load_model(run / "last.safetensors")
    assert all(torch.equal(tensor, tensors[f"/average/module/{name}"]) for name, tensor in last.tensors.items())
    assert load_model(run / "best.safetensors").tensors.keys() == last.tensors.keys()
    assert (run / "train.log").read_text().count("done: ") == 1


def test_adamw(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    """All but biases whose gradients are zero but for rounding, which AdamW divides by their size."""
    pair.run(parts.training, in_parts(tiny_data, QUIET, opt=ADAMW), tmp_path, "parts", {})
    train_alone(tmp_path, whole(tiny_data, {**QUIET, "accum_steps": 2}, opt=ADAMW), "alone")
    found, expected = stored(tmp_path, "parts"), stored(tmp_path, "alone")
    assert found.keys() == expected.keys()
    weights = [name for name in expected if name.startswith("/model") and not name.endswith("bias")]
    assert len(weights) > 20
    assert_same_tensors({name: found[name] for name in weights}, {name: expected[name] for name in weights}, 1e-4)
    moments = [name for name in expected if name.startswith("/optimizer") and name.endswith("/step")]
    assert moments
    assert all(torch.equal(found[name], expected[name]) for name in moments)


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [((2, "fsdp"), (3, "ddp")), ((2, "ddp"), (3, "fsdp")), ((3, "fsdp"), (2, "fsdp")), ((2, "fsdp"), (1, "ddp"))],
    ids=str,
)
def test_a_run_goes_on_in_another_way(
    tiny_data: Path,
    tmp_path: Path,
    pair: Pool,
    triple: Pool,
    begun: tuple[int, str],
    resumed: tuple[int, str],
) -> None:
    def run(way: tuple[int, str], folder: Path, options: dict[str, Any]) -> None:
        size, strategy = way
        config = whole(tiny_data, {**QUIET, "strategy": strategy})
        if size == 1:
            parts.training(World(), config, folder, "run", options)
        else:
            (pair if size == 2 else triple).run(parts.training, config, folder, "run", options)

    run(begun, tmp_path / "whole", {"checkpoint_epochs": 2})
    checkpoints = list_checkpoints(tmp_path / "whole" / "runs" / "tiny_run" / "checkpoints")
    run(resumed, tmp_path / "other", {"resume": str(checkpoints[1])})
    assert_same_tensors(stored(tmp_path / "other", "run"), stored(tmp_path / "whole", "run"))


def test_a_run_in_parts_goes_on_to_the_bit(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    config = in_parts(tiny_data, DROPOUT, opt=ADAMW)
    pair.run(parts.training, config, tmp_path / "whole", "run", {"checkpoint_epochs": 2})
    middle = list_checkpoints(tmp_path / "whole" / "runs" / "tiny_run" / "checkpoints")[1]
    pair.run(parts.training, config, tmp_path / "other", "run", {"resume": str(middle)})
    assert_same_tensors(stored(tmp_path / "other", "run"), stored(tmp_path / "whole", "run"), 0.0)


def test_every_process_holds_its_share(tiny_data: Path, tmp_path: Path, pair: Pool, triple: Pool) -> None:
    """Bytes of weights, averages and the two moments of AdamW; vectors of a single row cannot be cut."""
    wide = {
        "opt": {**ADAMW, "epochs": 1, "warmup_epochs": 0},
        "model": {"backbone": {"n_embd": 96, "n_head": 2, "arch": [1, 1, 2], "mha_win_size": 5}},
    }
    expected = train_alone(tmp_path, whole(tiny_data, QUIET, **wide), "alone")["bytes"]
    assert expected["optimizer"] >= 2 * expected["weights"] > 1e6
    for size, pool in ((2, pair), (3, triple)):
        results = pool.run(parts.training, in_parts(tiny_data, QUIET, **wide), tmp_path, f"parts{size}", {})
        for kind, count in expected.items():
            held = [result["bytes"][kind] for result in results]
            assert max(held) <= 1.06 * count / size, (kind, size)
            assert count <= sum(held) <= 1.01 * count, (kind, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_parts_are_put_together(pair: Pool, triple: Pool, count: int, dtype: torch.dtype) -> None:
    """Also where some have fewer rows, or none."""
    expected = torch.arange(6 * count).reshape(count, 3, 2).to(dtype)
    for pool in (pair, triple):
        results = pool.run(parts.whole_rows, count, dtype)
        assert sum(held for _, held in results) == count
        for found, _ in results:
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_no_message_that_kills_processes(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    """PyTorch's functional operations are not safe on gloo: docs/decisions/013-fsdp.md."""
    safe = {"allreduce_", "_allgather_base_", "_reduce_scatter_base_", "allgather_", "gather_", "broadcast_"}
    found = pair.run(parts.messages_of_training, in_parts(tiny_data, QUIET, opt=ADAMW), tmp_path)
    assert {"allgather_", "_reduce_scatter_base_"} < found[0] <= safe
    assert found[1] == found[0]
    assert "all_gather_into_tensor" in pair.run(parts.messages_of_full_tensor)[0]  # what is looked for is seen


def test_a_single_process(tiny_data: Path, tmp_path: Path) -> None:
    train_alone(tmp_path, in_parts(tiny_data, DROPOUT), "parts", eval_freq=1)
    assert not dist.is_initialized()
    train_alone(tmp_path, whole(tiny_data, DROPOUT), "alone", eval_freq=1)
    assert_same_tensors(stored(tmp_path, "parts"), stored(tmp_path, "alone"))


def test_checkpoints_by_the_clock_of_the_first_process(tiny_data: Path, tmp_path: Path, pair: Pool) -> None:
    """All write together or none, however their clocks run."""
    config = in_parts(tiny_data, {**QUIET, "checkpoint_minutes": 1e-9, "keep_checkpoints": 50})
    pair.run(parts.training, config, tmp_path, "clock", {"checkpoint_epochs": 0})
    assert len(list_checkpoints(tmp_path / "runs" / "tiny_clock" / "checkpoints")) > 5


def test_the_loss_scale_is_the_same_in_all_processes(pair: Pool, triple: Pool) -> None:
    for pool, size in ((pair, 2), (triple, 3)):
        assert pool.run(parts.scale_after_overflow) == [2.0**15] * size


@pytest.mark.slow
def test_the_command_line(tiny_data: Path, tmp_path: Path) -> None:
    config = whole(tiny_data, QUIET).model_copy(update={"output_folder": str(tmp_path / "runs")})
    path = write_config(tmp_path, config)
    for strategy in ("fsdp", "ddp"):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
        words = [*torchrun, "train_ddp.py", str(path), "--strategy", strategy, "--output", strategy]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "done: " in done.stdout
    assert_same_tensors(stored(tmp_path, "fsdp"), stored(tmp_path, "ddp"))
