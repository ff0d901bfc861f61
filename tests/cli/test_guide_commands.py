"""The commands for several processes as the guide writes them: on a CPU, with two processes each, and toy data."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventide.engine.model_file import load_model
from tests.cli.launching import Place
from tests.conftest import REPOSITORY
from tests.engine.making import tiny_config, write_config
from tests.engine.several.pool import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc"),
]

ONE_MACHINE = [
    pytest.param(
        "torchrun --nproc_per_node=4 train_ddp.py config.yaml --amp --output prod", "config_prod", 2, id="production"
    ),
    pytest.param(
        r"""torchrun --nproc_per_node=2 train_ddp.py config.yaml \
    --amp --accum-steps 4 --output limited_mem""",
        "config_limited_mem",
        8,
        id="limited memory",
    ),
    pytest.param(
        r"""torchrun --nproc_per_node=8 train_ddp.py config.yaml \
    --amp --accum-steps 1""",
        "config",
        2,
        id="A100 and H100",
    ),
    pytest.param(
        r"""torchrun --nproc_per_node=4 train_ddp.py config.yaml \
    --amp --accum-steps 2""",
        "config",
        4,
        id="V100",
    ),
    pytest.param(
        r"""torchrun --nproc_per_node=2 train_ddp.py config.yaml \
    --amp --accum-steps 4""",
        "config",
        8,
        id="RTX",
    ),
]
MASTER = r"""torchrun --nproc_per_node=8 --nnodes=4 --node_rank=0 \
    --master_addr=$MASTER_ADDR --master_port=29500 \
    train_ddp.py config.yaml --amp --accum-steps 2"""
OTHERS = r"""torchrun --nproc_per_node=8 --nnodes=4 --node_rank=$RANK \
    --master_addr=$MASTER_ADDR --master_port=29500 \
    train_ddp.py config.yaml --amp --accum-steps 2"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place.make(tmp_path)
    write_config(tmp_path, tiny_config(tmp_path, opt={"epochs": 1, "warmup_epochs": 1}), "config.yaml")
    yield made
    made.family.kill()


def words_of(command: str, port: int, rank: int = 0) -> list[str]:
    """What Python is to run: two processes per machine, two machines, on this one."""
    command = (
        command.replace("\\\n", " ")
        .replace("$MASTER_ADDR", "127.0.0.1")
        .replace("$RANK", str(rank))
        .replace("29500", str(port))
    )
    command = re.sub(r"--nnodes=\d", "--nnodes=2", re.sub(r"--nproc_per_node=\d", "--nproc_per_node=2", command))
    name, *words = shlex.split(command)
    assert name == "torchrun"
    words = [str(REPOSITORY / word) if word == "train_ddp.py" else word for word in words]
    port_of_one = [] if "--nnodes" in command else [f"--master_port={port}"]
    return ["-m", "torch.distributed.run", *port_of_one, *words]


@pytest.mark.parametrize(("command", "run", "batches"), ONE_MACHINE)
def test_on_one_machine(place: Place, command: str, run: str, batches: int) -> None:
    ended = place.start(words_of(command, free_port())).finish()
    assert ended.code == 0, ended.err
    assert f"2 process(es): a step is {batches} batch(es)" in ended.out
    assert f"learning rate 0.01 x {batches}" in ended.out
    assert load_model(place.folder / "runs" / run / "best.safetensors").tensors
    assert place.family.left() == []


def test_on_two_machines(place: Place) -> None:
    port = free_port()
    started = [place.start(words_of(MASTER, port)), place.start(words_of(OTHERS, port, rank=1))]
    first, second = [command.finish() for command in started]
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "4 process(es): a step is 8 batch(es)" in first.out
    assert second.out == ""
    assert load_model(place.folder / "runs" / "config" / "best.safetensors").tensors
    assert place.family.left() == []
