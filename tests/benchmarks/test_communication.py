"""What a training step sends: counted as in a real step; formulas that hold at their ends; tables on the page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import communication
from benchmarks.communication import (
    INSIDE,
    LINKS,
    Link,
    Traffic,
    exposed_seconds,
    message_seconds,
    project,
    sent_all_reduce,
    sent_in_step,
    step_seconds,
    traffic_of,
    write_blocks,
)
from benchmarks.communication_measured import loopback_bytes, measure
from eventide.engine.world import World
from tests.conftest import REPOSITORY
from tests.engine.making import run_training, tiny_config, write_data

TRAFFIC = Traffic("x", 500, (1_000_000, 1_000_000), 20, 1_500_000)
ETHERNET = LINKS[1]
DEVICES = """Inter-|   Receive                          |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 1234       5    0    0    0     0          0         0    4321       6    0    0    0     0       0          0
  eth0:    9       1    0    0    0     0          0         0       8       1    0    0    0     0       0          0
"""


@pytest.mark.parametrize(("processes", "sent"), [(1, 0), (2, 100), (3, 400 / 3), (4, 150), (1000, 199.8)])
def test_ring(processes: int, sent: float) -> None:
    assert sent_all_reduce(100, processes) == pytest.approx(sent)


def test_counted_values_are_those_of_a_real_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    config = tiny_config(tmp_path, opt={"epochs": 1, "warmup": False})
    sent: list[int] = []
    monkeypatch.setattr(World, "sum", lambda self, values: sent.append(values.numel()) or values)
    trainer = run_training(tmp_path, config, "counted", eval_freq=0)
    traffic = traffic_of("tiny", config)
    gradients: list[Tensor] = [p for group in trainer.state.optimizer.param_groups for p in group["params"]]
    assert sent == [traffic.messages(1)[-1] / 4] * trainer.plan.total_steps
    assert traffic.gradients == 4 * sum(p.numel() for p in gradients) == 4 * traffic.parameters


def test_buckets_hold_every_gradient_once() -> None:
    traffic = traffic_of("a100", communication.load_config(REPOSITORY / "configs" / "hardware" / "a100.yaml"))
    assert traffic.gradients == 4 * traffic.parameters
    assert len(traffic.buckets) > 1
    assert all(size <= communication.BUCKET_BYTES for size in traffic.buckets[:-1])


@given(st.sampled_from(communication.GPUS), st.sampled_from(LINKS), st.floats(1e-5, 10))
def test_overlap_helps_and_never_hides_the_last_message(gpus: int, link: Link, pass_seconds: float) -> None:
    exposed, alone = exposed_seconds(TRAFFIC, gpus, link, pass_seconds), step_seconds(TRAFFIC, gpus, link)
    assert exposed <= alone * (1 + 1e-9)
    assert exposed >= message_seconds(TRAFFIC.buckets[-1], gpus, link)


@given(st.sampled_from(communication.GPUS), st.sampled_from(LINKS), st.floats(1e-4, 1))
def test_the_passes_for_ninety_per_cent(gpus: int, link: Link, pass_seconds: float) -> None:
    passes = project(TRAFFIC, gpus, link, pass_seconds, 1).passes
    assert project(TRAFFIC, gpus, link, pass_seconds, passes).overlapped >= 0.9 - 1e-9
    if passes > 1:
        assert project(TRAFFIC, gpus, link, pass_seconds, passes - 1).overlapped < 0.9


def test_one_machine_does_not_use_the_link() -> None:
    assert {message_seconds(1e6, 8, link) for link in LINKS} == {message_seconds(1e6, 8, INSIDE)}
    assert message_seconds(1e9, 16, ETHERNET) == pytest.approx(1.875e9 / 10e9, rel=0.01)


def test_loopback_counter() -> None:
    assert loopback_bytes(DEVICES) == 4321
    with pytest.raises(ValueError, match="unpack"):
        loopback_bytes("eth0: 1")


def test_tables_are_written_between_their_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    lines = ["a", "<!-- communication:begin counted -->", "old", "<!-- communication:end counted -->", "z"]
    page.write_text("\n".join(lines))
    write_blocks(page, {"counted": "new"})
    assert page.read_text() == "\n".join([*lines[:2], "", "new", "", *lines[3:]])
    with pytest.raises(SystemExit, match="communication:begin measured"):
        write_blocks(page, {"measured": "new"})


def test_the_page_has_the_counted_table() -> None:
    page = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    configs = {path: communication.load_config(REPOSITORY / path) for path in communication.CONFIGS}
    names = [path.removeprefix("configs/").removesuffix(".yaml") for path in configs]
    traffics = [traffic_of(name, config) for name, config in zip(names, configs.values(), strict=True)]
    assert communication.counted_table(traffics) in page


@pytest.mark.slow
def test_measured_bytes_are_the_counted_ones() -> None:
    """Packet headers come on top, and what a few seconds of the launcher's own talk add."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip (Linux)")
    if subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives nobody a network namespace")
    path = REPOSITORY / "configs" / "hapt_segments.yaml"
    measured = measure(path, 2)
    counted = sent_in_step(traffic_of("hapt", communication.load_config(path)), 2)
    assert 1.0 < measured.bytes_per_step / counted < 1.02
