"""The examples for SLURM and Kubernetes: they lint, fit together, name options that exist, and do what they say.

There is no cluster here. Stand-ins for srun, scontrol and torchrun show what the scripts do with what these return.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cyclopts
import pytest
import yaml

from tests.conftest import REPOSITORY

SLURM = sorted((REPOSITORY / "examples" / "slurm").glob("*.sbatch"))
KUBERNETES = sorted((REPOSITORY / "examples" / "kubernetes").glob("*.yaml"))
TRAINING = [path for path in SLURM if path.name.startswith("train")]
each_script = pytest.mark.parametrize("path", SLURM, ids=lambda path: path.name)
each_training = pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.name)
each_manifest = pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)


def resources(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def jobs() -> list[dict[str, Any]]:
    return [resource for path in KUBERNETES for resource in resources(path) if resource["kind"] == "Job"]


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def script_of(job: dict[str, Any]) -> str:
    """What the container runs, as a script."""
    assert container(job)["command"] == ["bash", "-euc"]
    (script,) = container(job)["args"]
    return "#!/bin/bash\n" + script


each_job = pytest.mark.parametrize("job", jobs(), ids=lambda job: job["metadata"]["name"])


def commands(text: str) -> list[list[str]]:
    """The words of every command in a script that starts Eventide, continued lines joined, redirections left out."""
    joined = text.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines() if not line.lstrip().startswith("#")]
    found = [line for line in lines if re.search(r"\btrain(_ddp)?\.py\b|\beventide predict\b", line)]
    return [shlex.split(re.split(r"\|\||&$|&&", line)[0], comments=True) for line in found if "usage:" not in line]


def shell_checked(text: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("lint tools are not installed")
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True, check=False)


def app_of(name: str) -> cyclopts.App:
    """The command line of train.py or train_ddp.py."""
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), REPOSITORY / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app  # type: ignore[no-any-return]


def check_words(words: list[str]) -> None:
    """Raise where a word of a command, from srun or torchrun on, is not understood by the program it is for."""
    from torch.distributed.run import get_args_parser

    from eventide.cli import app as eventide_app

    known = [number for number, word in enumerate(words) if word in ("train.py", "train_ddp.py", "eventide")]
    start = known[0]
    launcher, program = words[:start], [word for word in words[start + 1 :] if not word.startswith("${@:")]
    if "torchrun" in launcher:
        own = launcher[launcher.index("torchrun") + 1 :]
        numbers = [re.sub(r"=\$\{?[\w:-]+\}?$", "=2", word) for word in own]  # "--nnodes=$N"
        parsed = get_args_parser().parse_args([*numbers, words[start]])
        assert parsed.module is (words[start] == "eventide")
    app = eventide_app if words[start] == "eventide" else app_of(words[start])
    app.parse_args(program, exit_on_error=False, print_error=False)


def test_there_are_examples() -> None:
    assert {path.name for path in SLURM} >= {"train_srun.sbatch", "train_torchrun.sbatch", "predict.sbatch"}
    assert {path.name for path in KUBERNETES} >= {"train.yaml", "storage.yaml"}


@each_script
def test_shellcheck(path: Path) -> None:
    done = shell_checked(path.read_text(encoding="utf-8"))
    assert done.returncode == 0, done.stdout


@each_job
def test_shellcheck_of_what_a_pod_runs(job: dict[str, Any]) -> None:
    done = shell_checked(script_of(job).replace("JOB_COMPLETION_INDEX", "HOSTNAME"))  # set by Kubernetes
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_a_missing_quote() -> None:
    text = TRAINING[0].read_text(encoding="utf-8")
    assert shell_checked(text.replace('"$config" --output', "$config --output")).returncode == 1


@each_manifest
def test_kubernetes_schema(path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="lint tools are not installed")
    for resource in resources(path):
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_schema_finds_a_misspelt_key() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="lint tools are not installed")
    job = jobs()[0]
    job["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", [*SLURM, *KUBERNETES], ids=lambda path: path.name)
def test_every_option_exists(path: Path) -> None:
    found = commands(path.read_text(encoding="utf-8"))
    assert found or path.name == "storage.yaml"
    for words in found:
        check_words(words)


def test_every_option_on_the_page_exists() -> None:
    page = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    found = [words for block in blocks for words in commands(block) if "sbatch" not in words[0]]
    assert len(found) > 5
    for words in [
        *found,
        *(shlex.split(line) for line in re.findall(r"`((?:torchrun|python) [^`]*\.yaml[^`]*)`", page)),
    ]:
        check_words(words)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("torchrun --nproc_per_node=2 train_ddp.py a.yaml --akkum-steps 2", "akkum"),
        ("torchrun --nproc_per_node=2 train_ddp.py a.yaml --accum-steps many", "many"),
        ("torchrun --nproc_per_node=2 -m eventide predict --checkpoint a --output b --featurs c", "featurs"),
    ],
)
def test_an_unknown_option_is_found(line: str, message: str) -> None:
    (words,) = commands(line)
    with pytest.raises(cyclopts.CycloptsError, match=message):
        check_words(words)


def test_an_unknown_option_of_torchrun_is_found() -> None:
    with pytest.raises(SystemExit):
        check_words(["torchrun", "--procs_per_node=2", "train_ddp.py", "a.yaml"])


def directive(path: Path, name: str) -> str:
    (value,) = re.findall(rf"^#SBATCH --{name}=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


@each_script
def test_slurm_gives_each_process_its_gpu(path: Path) -> None:
    tasks, gpus = directive(path, "ntasks-per-node"), directive(path, "gpus-per-node")
    by_torchrun = "torchrun" in path.read_text(encoding="utf-8").split("set -euo")[1]
    assert tasks == ("1" if by_torchrun else gpus)


@each_training
def test_slurm_warns_earlier_than_torchrun_kills(path: Path) -> None:
    assert "#SBATCH --requeue\n" in path.read_text(encoding="utf-8")
    name, seconds = directive(path, "signal").split("@")
    patience = re.findall(r"--shutdown-timeout=(\d+)", path.read_text(encoding="utf-8"))
    assert name == "TERM"
    assert all(int(value) < int(seconds) for value in patience)


@each_job
def test_kubernetes_job_fits_together(job: dict[str, Any]) -> None:
    spec, pod, script = job["spec"], job["spec"]["template"]["spec"], script_of(job)
    everything = [resource for path in KUBERNETES for resource in resources(path)]
    services = {item["metadata"]["name"]: item["spec"] for item in everything if item["kind"] == "Service"}
    claims = {item["metadata"]["name"] for item in everything if item["kind"] == "PersistentVolumeClaim"}
    name = job["metadata"]["name"]
    gpus = container(job)["resources"]["limits"]["nvidia.com/gpu"]

    assert spec["completions"] == spec["parallelism"] == int(re.findall(r"--nnodes=(\d+)", script)[0])
    assert gpus == int(re.findall(r"--nproc_per_node=(\d+)", script)[0])
    assert {volume["name"] for volume in pod["volumes"]} == {m["name"] for m in container(job)["volumeMounts"]}
    used = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "emptyDir" not in volume}
    assert used <= claims
    service = services[pod["subdomain"]]
    assert service["clusterIP"] == "None"
    assert service["selector"] == {"batch.kubernetes.io/job-name": name}
    host, port = re.findall(r"(?:--rdzv-endpoint=|--master_addr=)(\S+?)(?::|\s+--master_port=)(\d+)", script)[0]
    assert host == f"{name}-0.{pod['subdomain']}"
    assert int(port) in [item["port"] for item in service["ports"]]
    assert pod["restartPolicy"] == "Never"
    patience = int(re.findall(r"--shutdown-timeout=(\d+)", script)[0])
    assert pod["terminationGracePeriodSeconds"] > patience


def test_kubernetes_waits_for_the_model_of_its_own_run() -> None:
    (job,) = [job for job in jobs() if "train_ddp.py" in script_of(job)]
    values = {item["name"]: item["value"] for item in container(job)["env"]}
    output, folder = re.findall(r"--output (\S+).* --set output_folder=(\S+)", script_of(job))[0]
    assert values["RUN"] == f"{folder}/{Path(values['CONFIG']).stem}_{output}"
    assert (REPOSITORY / values["CONFIG"]).is_file()


def stand_in(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)


STARTS = {  # what the processes did: exit code; then exit code of the script, and whether the job is queued again
    "trained to the end": ("touch ckpt/a_b/last.safetensors", 0, 0, False),
    "stopped by SIGTERM after a checkpoint": ("touch ckpt/a_b/checkpoints/step_00000009.pt", 0, 0, True),
    "torchrun ended by the signal after a checkpoint": ("touch ckpt/a_b/checkpoints/step_00000009.pt", 1, 0, True),
    "a task killed after a checkpoint": ("touch ckpt/a_b/checkpoints/step_00000009.pt", 137, 0, True),
    "wrong configuration": ("true", 2, 2, False),
    "failed before it got further": ("true", 1, 1, False),
    "ended without a word": ("true", 0, 1, False),
}
AT_ITS_START = ("true", 143, 0, True)  # SIGTERM before a training answers it; torchrun has one code for all failures


CASES = [pytest.param(path, *start, id=f"{path.name}-{did}") for path in TRAINING for did, start in STARTS.items()]
CASES += [pytest.param(path, *AT_ITS_START, id="SIGTERM at its start") for path in TRAINING if "srun" in path.name]


@pytest.mark.parametrize(("path", "did", "code", "expected", "requeued"), CASES)
@pytest.mark.parametrize("started_before", [True, False], ids=["again", "the first time"])
def test_slurm_queues_again_what_got_further(
    path: Path, tmp_path: Path, did: str, code: int, expected: int, requeued: bool, started_before: bool
) -> None:
    run = tmp_path / "ckpt" / "a_b"
    if started_before:
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "step_00000005.pt").touch()
    stand_in(tmp_path / "bin", "srun", f'echo "$@" >srun.txt\n{did}\nexit {code}\n')
    stand_in(tmp_path / "bin", "scontrol", 'echo "$@" >>scontrol.txt\necho node-0\n')
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "12", "SLURM_GPUS_ON_NODE": "8"}
    environment |= {"SLURM_JOB_NODELIST": "node-[0-3]", "SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_PER_TASK": "3"}
    command = ["bash", str(path), "configs/a.yaml", "b", "--accum-steps", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == expected, done.stderr
    asked = (tmp_path / "scontrol.txt").read_text() if (tmp_path / "scontrol.txt").exists() else ""
    assert ("requeue 12\n" in asked) is requeued
    started = (tmp_path / "srun.txt").read_text()
    assert (
        "train_ddp.py configs/a.yaml --output b --resume auto --amp --set output_folder=ckpt --accum-steps 2\n"
        in started
    )
    assert "--cpus-per-task=3" in started
    if "torchrun" in started:
        assert (
            "--nnodes=4 --nproc_per_node=8 --rdzv-backend=c10d --rdzv-endpoint=node-0:20012 --rdzv-id=12-0" in started
        )


@each_script
def test_slurm_scripts_say_how_they_are_used(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"usage: sbatch {path.name}" in done.stderr


PODS = {
    "trained to the end": ('touch "$RUN/last.safetensors"', False, 0),
    "processes left with 0 and the training is not done": ("exit 0", False, 1),
    "torchrun failed": ("exit 1", False, 1),
    "told to stop": (
        "trap 'echo stopped >stopped.txt; exit 1' TERM; touch ready; while :; do sleep 0.02; done",
        True,
        1,
    ),
    "told to stop in the last moment": (
        "trap 'touch \"$RUN/last.safetensors\"; echo stopped >stopped.txt; exit 0' TERM; touch ready; "
        "while :; do sleep 0.02; done",
        True,
        0,
    ),
}


@pytest.mark.parametrize(("did", "stopped", "expected"), PODS.values(), ids=PODS.keys())
def test_a_pod_succeeds_only_when_the_training_is_done(tmp_path: Path, did: str, stopped: bool, expected: int) -> None:
    (job,) = [job for job in jobs() if "train_ddp.py" in script_of(job)]
    stand_in(tmp_path / "bin", "torchrun", f'echo "$@" >torchrun.txt\n{did}\n')
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RUN": str(tmp_path), "CONFIG": "a.yaml"}
    command = [*container(job)["command"], *container(job)["args"]]
    pod = subprocess.Popen(command, cwd=tmp_path, env={**environment, "JOB_COMPLETION_INDEX": "0"})
    try:
        if stopped:
            while not (tmp_path / "ready").exists():
                time.sleep(0.02)
            pod.send_signal(signal.SIGTERM)
        assert pod.wait(timeout=60) == expected
    finally:
        pod.kill()
    assert (tmp_path / "stopped.txt").exists() is stopped
    assert "is_host=1," in (tmp_path / "torchrun.txt").read_text()
