"""Facts about this machine, and about machines that are not here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from eventide.engine import machine
from eventide.engine.machine import main_memory, this_machine, usable_cores


def test_this_machine() -> None:
    found = this_machine()
    assert found.gpus == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert found.cores >= 1
    assert found.torch_version == str(torch.__version__)
    assert found.memory is None or found.memory > 1 << 20


def test_a_machine_with_gpus_is_as_large_as_its_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        def __init__(self, name: str, total_memory: int) -> None:
            self.name, self.total_memory = name, total_memory

    cards = [Properties("A", 80), Properties("B", 24)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: cards[index])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    found = this_machine()
    assert (found.gpus, found.memory, found.name, found.bfloat16) == (2, 24, "B", False)


@pytest.mark.parametrize(("label", "limit", "counts"), [("a container", "123456", True), ("no limit", "max", False)])
def test_the_share_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, limit: str, counts: bool
) -> None:
    (tmp_path / "limit").write_text(limit + "\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "limit"), str(tmp_path / "none")))
    assert (main_memory() == 123456) is counts


def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert main_memory() is None
    assert usable_cores() >= 1
