"""`eventide predict` in real processes under torchrun: the same file for any number of them, whatever ends them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eventide.engine.model_file import save_model
from tests.engine.making import CHANNELS, tiny_config, write_config, write_data
from tests.engine.test_predict import stored
from tests.errors.error_case import run_cli

DISTURBED = Path(__file__).with_name("predict_disturbed.py")
REPOSITORY = DISTURBED.parent.parent.parent
WORDS = ["predict", "--checkpoint", "model.safetensors", "--output", "r.json", "--device", "cpu"]
FOLDER, SPLIT = ["--features", "features"], ["--config", "tiny.yaml", "--split", "validation"]
RECORDINGS = 12
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a folder of features, a data set, and what one process finds in each: folder.json, split.json, .csv."""
    folder = tmp_path_factory.mktemp("made")
    write_data(folder)
    config = tiny_config(folder)
    save_model(folder / "model.safetensors", stored(config, fps=10.0))
    write_config(folder, config)
    (folder / "features").mkdir()
    rng = np.random.default_rng(3)
    for number in range(RECORDINGS):
        rows = rng.normal(size=(int(rng.integers(5, 80)), CHANNELS)).astype(np.float32)
        np.save(folder / "features" / f"rec{number}.npy", rows)
    for name, source in (("folder", FOLDER), ("split", SPLIT)):
        run_cli([*WORDS, *source, "--csv", "r.csv"], folder)
        (folder / "r.json").rename(folder / f"{name}.json")
        (folder / "r.csv").rename(folder / f"{name}.csv")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def command(processes: int, words: Sequence[str], disturbance: Sequence[object] = ()) -> list[str]:
    """The command line; 0 processes: one without torchrun."""
    launcher = [sys.executable]
    if processes:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    program = [str(DISTURBED), *map(str, disturbance)] if disturbance else ["-m", "eventide"]
    return [*launcher, *program, *words]


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def run(folder: Path, processes: int, words: Sequence[str], *disturbance: object) -> subprocess.CompletedProcess[str]:
    """Run to the end, however that is."""
    return subprocess.run(
        command(processes, words, disturbance),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_complete(folder: Path, name: str = "folder", csv: bool = True) -> None:
    """The results are those of one undisturbed process, to the byte, and nothing else is left."""
    assert (folder / "r.json").read_bytes() == (folder / f"{name}.json").read_bytes()
    assert not csv or (folder / "r.csv").read_bytes() == (folder / f"{name}.csv").read_bytes()
    assert [path.name for path in folder.iterdir() if "parts" in path.name or path.suffix == ".tmp"] == []


def errors_in(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Our messages among what torchrun says."""
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


SOURCES = [
    pytest.param(3, "folder", FOLDER, id="folder"),
    pytest.param(2, "split", [*SPLIT, "--set", "loader.num_workers=1"], id="split, loader processes"),
]


@pytest.mark.parametrize(("processes", "name", "source"), SOURCES)
def test_the_same_files(folder: Path, processes: int, name: str, source: list[str]) -> None:
    result = run(folder, processes, [*WORDS, *source, "--csv", "r.csv"])
    assert result.returncode == 0, result.stderr
    assert_complete(folder, name)
    said = [re.sub(r"\d+\.\d+", "S", line) for line in result.stdout.splitlines()]
    results = json.loads((folder / "r.json").read_text())["results"]
    count = sum(map(len, results.values()))
    recordings = f"{count} detections in {len(results)} recordings, S s (S recordings/s)"
    assert said == [recordings, "wrote r.json", "wrote r.csv"]


def test_one_recording_and_three_processes(folder: Path) -> None:
    for number in range(1, RECORDINGS):
        (folder / "features" / f"rec{number}.npy").unlink()
    assert run(folder, 3, [*WORDS, *FOLDER]).returncode == 0
    results = json.loads((folder / "r.json").read_text())["results"]
    assert results == {"rec0": json.loads((folder / "folder.json").read_text())["results"]["rec0"]}


KILLS = [
    pytest.param(0, ("tear", 0, 3), 2, id="alone, torn, then two"),
    pytest.param(2, ("kill", 0, 2), 3, id="first of two, then three"),
    pytest.param(3, ("kill", 2, 0), 2, id="third at once, then two"),
    pytest.param(3, ("tear", 0, 1), 0, id="first of three torn, then alone"),
    pytest.param(2, ("merge", 0, 0), 0, id="before the table"),
    pytest.param(0, ("merge", 0, 2), 2, id="after the results"),
]


@pytest.mark.parametrize(("processes", "disturbance", "again"), KILLS)
def test_kill_9_and_the_same_command(
    folder: Path, processes: int, disturbance: tuple[str, int, int], again: int
) -> None:
    words = [*WORDS, *FOLDER, "--csv", "r.csv"]
    killed = run(folder, processes, words, *disturbance)
    assert killed.returncode != 0
    # the first process, if it came to its end before torchrun ended it, has seen that another one died
    assert all("recordings are not finished: another process has failed or was ended" in e for e in errors_in(killed))
    parts = b"".join(path.read_bytes() for path in (folder / "r.json.parts").glob("*.jsonl"))
    finished = parts.count(b"\n")
    assert (finished == RECORDINGS) == (disturbance[0] == "merge")
    assert parts[-1:] in (b"", b"\n") or disturbance[0] == "tear"
    result = run(folder, again, words)
    assert result.returncode == 0, result.stderr
    if finished:
        assert f"r.json.parts: {finished} of {RECORDINGS} recordings are finished\n" in result.stdout
        assert f"; {finished} were finished before)" in result.stdout
    assert_complete(folder)


def test_torchrun_starts_again_by_itself(folder: Path) -> None:
    words = command(2, [*WORDS, *FOLDER, "--csv", "r.csv"], ("kill", 1, 2))
    words.insert(words.index("--standalone"), "--max-restarts=1")
    result = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert_complete(folder)


def heed_ctrl_c() -> None:
    """What a shell does for a command in the foreground; in the background it starts with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("processes", [0, 2])
def test_ctrl_c_loses_nothing(folder: Path, processes: int) -> None:
    words = [*WORDS, *FOLDER, "--csv", "r.csv"]
    disturbed = command(processes, words, ("slow", "-", 400))
    process = subprocess.Popen(
        disturbed,
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        written = [path.read_bytes().count(b"\n") for path in (folder / "r.json.parts").glob("*.jsonl")]
        if len(written) == max(processes, 1) and min(written) > 1:
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to torchrun and all it has started
    said = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert processes or process.returncode == 130
    messages = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, said
    assert re.fullmatch(
        rf"error: interrupted; \d+ of {RECORDINGS} recordings are finished, the same command goes on from there",
        messages[0],
    )
    result = run(folder, processes, words)
    assert result.returncode == 0, result.stderr
    assert_complete(folder)


def test_a_broken_recording_stops_its_process_alone(folder: Path) -> None:
    whole = (folder / "features" / "rec5.npy").read_bytes()
    rows = np.load(folder / "features" / "rec5.npy")
    rows[2, 1] = np.nan
    np.save(folder / "features" / "rec5.npy", rows)
    result = run(folder, 3, [*WORDS, *FOLDER, "--csv", "r.csv"])
    assert result.returncode == 1
    told = [line for line in errors_in(result) if "rec5.npy: 1 values are NaN or Inf" in line]
    assert len(told) == 1
    assert re.match(r"error: process \d of 3: .*; the others finish what is theirs", told[0])
    parts = b"".join(path.read_bytes() for path in (folder / "r.json.parts").glob("*.jsonl"))
    assert parts.count(b"\n") >= RECORDINGS - 4  # each has four
    (folder / "features" / "rec5.npy").write_bytes(whole)
    result = run(folder, 2, [*WORDS, *FOLDER, "--csv", "r.csv"])
    assert result.returncode == 0, result.stderr
    assert_complete(folder)


MISTAKES = [
    pytest.param(["--features", "nowhere"], "--features nowhere: there is no such folder", 2, id="folder"),
    pytest.param(["--features", "features", "--output", "folder.json"], "folder.json exists already", 2, id="exists"),
]


@pytest.mark.parametrize(("words", "message", "code"), MISTAKES)
def test_one_message_for_a_mistake(folder: Path, words: list[str], message: str, code: int) -> None:
    before = (folder / "folder.json").read_bytes()
    base = WORDS if "--output" not in words else [word for word in WORDS if word not in ("--output", "r.json")]
    result = run(folder, 2, [*base, *words])
    assert result.returncode != 0
    assert f"(exitcode: {code})" in result.stderr
    assert [line for line in errors_in(result) if message in line] == errors_in(result)
    assert len(errors_in(result)) == 1, result.stderr
    assert (folder / "folder.json").read_bytes() == before
    assert not (folder / "r.json.parts").exists()


def test_parts_of_other_settings_are_refused_once(folder: Path) -> None:
    run(folder, 2, [*WORDS, *FOLDER], "kill", 1, 2)
    result = run(folder, 2, [*WORDS, *FOLDER, "--min-score", "0.5"])
    (message,) = errors_in(result)
    assert "r.json.parts holds recordings that were finished with other settings: min_score was None" in message
