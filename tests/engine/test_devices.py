"""Devices and precision."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from eventide.engine.devices import choose_precision, cpu_has_bfloat16, make_fabric, own_device, pick_device
from eventide.engine.processes import Launch
from eventide.types import UsageError


@pytest.mark.parametrize(
    ("label", "name", "launch", "expected"),
    [
        ("alone", "cuda", Launch(), "cuda:0"),
        ("alone, told", "cuda:3", Launch(), "cuda:3"),
        ("second of a machine", "cuda", Launch("torchrun", 1, 4, 1, 4), "cuda:1"),
        ("second machine", "auto", Launch("torchrun", 5, 8, 1, 4), "cuda:1"),
        ("one device for all", "cuda:1", Launch("torchrun", 0, 2, 0, 2), None),
        ("one process per machine", "cuda:1", Launch("torchrun", 0, 2, 0, 1), "cuda:1"),
    ],
)
def test_every_process_has_a_device_of_its_own(label: str, name: str, launch: Launch, expected: str | None) -> None:
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=4),
    ):
        if expected is not None:
            assert own_device(name, launch) == torch.device(expected)
        else:
            with pytest.raises(UsageError, match="set device: cuda"):
                own_device(name, launch)


def test_processes_share_a_cpu() -> None:
    assert own_device("cpu", Launch("torchrun", 1, 2, 1, 2)) == torch.device("cpu")


def test_cpu_is_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["cuda:99", "cuda:64"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match=f"device {name} is not there"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "CPU", "meta", "0"])
def test_a_name_that_is_no_device(name: str) -> None:
    with pytest.raises(UsageError, match="give auto, cpu, cuda, cuda:N or mps"):
        pick_device(name)


@pytest.mark.parametrize(
    ("label", "device", "supported", "precision", "sentence"),
    [
        ("CPU with bfloat16", "cpu", True, "bf16-mixed", "bfloat16"),
        ("CPU without", "cpu", False, "32-true", "--amp has no effect"),
        ("new GPU", "cuda", True, "bf16-mixed", "bfloat16"),
        ("old GPU", "cuda", False, "16-mixed", "float16 with loss scaling"),
        ("MPS", "mps", True, "32-true", "--amp has no effect"),
    ],
)
def test_precision(label: str, device: str, supported: bool, precision: str, sentence: str) -> None:
    with (
        mock.patch("eventide.engine.devices.cpu_has_bfloat16", return_value=supported),
        mock.patch("torch.cuda.is_bf16_supported", return_value=supported),
    ):
        chosen, said = choose_precision(torch.device(device), amp=True)
    assert chosen == precision
    assert sentence in said
    assert choose_precision(torch.device(device), amp=False) == ("32-true", "")


def test_a_plain_process_stays_one_whatever_a_cluster_says() -> None:
    with mock.patch.dict("os.environ", {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x"}):
        fabric, scaler = make_fabric(torch.device("cpu"), "32-true")
    assert (fabric.world_size, fabric.global_rank, scaler) == (1, 0, None)


@pytest.mark.parametrize(
    ("label", "machine", "avx512", "amx", "other", "expected"),
    [
        ("x86 with AVX-512 BF16", "x86_64", True, False, True, True),
        ("x86 with AMX", "AMD64", False, True, True, True),
        ("x86 that would emulate it", "x86_64", False, False, True, False),
        ("Arm with it", "aarch64", False, False, True, True),
        ("Arm without", "arm64", False, False, False, False),
    ],
)
def test_bfloat16_of_cpus(label: str, machine: str, avx512: bool, amx: bool, other: bool, expected: bool) -> None:
    with (
        mock.patch("platform.machine", return_value=machine),
        mock.patch("torch.cpu._is_avx512_bf16_supported", return_value=avx512),
        mock.patch("torch.cpu._is_amx_tile_supported", return_value=amx),
        mock.patch("torch.ops.mkldnn._is_mkldnn_bf16_supported", return_value=other),
    ):
        assert cpu_has_bfloat16() is expected
