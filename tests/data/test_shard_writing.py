"""Making shards: the same bytes however often a run is stopped, and nothing of others touched."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import h5py
import numpy as np
import pytest
import torch

from eventide.data import shard_writing
from eventide.data.features import FeatureStore
from eventide.data.places import LocalFolder
from eventide.types import EventideError, UsageError
from tests.data.making_shards import failing_store, quiet, shard_folder, stop_after, write_many

REPOSITORY = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    return write_many(tmp_path / "features", 12)


def test_a_run_says_what_it_has_done(tmp_path: Path, names: list[str]) -> None:
    steps: list[tuple[str, int, int]] = []
    done = shard_folder(
        str(tmp_path / "features"), tmp_path / "new" / "s", names, progress=lambda *step: steps.append(step)
    )
    shards = sorted((tmp_path / "new" / "s").glob("*.tar"))
    assert done == (len(shards), 0, 12, sum(path.stat().st_size for path in shards))
    assert steps[11:13] == [("looking at features", 12, 12), ("writing shards", 1, len(shards))]
    assert steps[-1] == ("writing shards", len(shards), len(shards))
    assert {path.suffix for path in (tmp_path / "new" / "s").iterdir()} == {".tar", ".json"}
    assert not (tmp_path / "new" / "s" / "shards.unfinished.json").exists()


def test_the_order_of_the_recordings_changes_nothing(tmp_path: Path, names: list[str]) -> None:
    shard_folder(str(tmp_path / "features"), tmp_path / "a", names)
    shard_folder(str(tmp_path / "features"), tmp_path / "b", names[::-1])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_goes_on(tmp_path: Path, names: list[str], after: int) -> None:
    source, target = str(tmp_path / "features"), tmp_path / "s"
    shard_folder(source, tmp_path / "whole", names)
    with pytest.raises(KeyboardInterrupt):
        shard_folder(source, target, names, progress=stop_after(after))
    assert len(list(target.glob("*.tar"))) == after
    times = {path.name: path.stat().st_mtime_ns for path in target.glob("*.tar")}
    with pytest.raises(UsageError, match="not finished; run the same eventide shard command again"):
        FeatureStore(str(target), input_dim=4)
    (target / ".features-000001.tar.abc.tmp").write_bytes(b"left by a killed run")
    done = shard_folder(source, target, names)
    assert done.kept == after
    assert {name: (target / name).stat().st_mtime_ns for name in times} == times
    assert contents(target) == contents(tmp_path / "whole")
    assert shard_folder(source, target, names) == (done.shards, done.shards, 12, done.bytes)


def test_a_shard_of_features_that_changed_is_made_again(tmp_path: Path, names: list[str]) -> None:
    source, target = tmp_path / "features", tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        shard_folder(str(source), target, names, progress=stop_after(3))
    values = np.load(source / "rec000.npy")
    np.save(source / "rec000.npy", values + 1)
    os.utime(source / "rec000.npy", ns=(1, 1))
    assert shard_folder(str(source), target, names).kept == 2
    np.testing.assert_array_equal(FeatureStore(str(target), input_dim=4).read("rec000"), values + 1)


def test_a_cut_off_shard_of_an_unfinished_run_is_made_again(tmp_path: Path, names: list[str]) -> None:
    source, target = str(tmp_path / "features"), tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        shard_folder(source, target, names, progress=stop_after(2))
    os.truncate(target / "features-000000.tar", 100)
    assert shard_folder(source, target, names).kept == 1
    assert FeatureStore(str(target), input_dim=4).read("rec000").shape[1] == 4


def put(name: str, content: bytes = b"x") -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

    return change


def interrupted(**options: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        names = sorted(path.stem for path in (folder.parent / "features").iterdir())
        with pytest.raises(KeyboardInterrupt):
            shard_folder(str(folder.parent / "features"), folder, names, progress=stop_after(1), **options)

    return change


def finished(**options: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        names = sorted(path.stem for path in (folder.parent / "features").iterdir())
        shard_folder(str(folder.parent / "features"), folder, names, **options)

    return change


REFUSED = [
    ("a file of somebody", put("notes.txt"), "holds other files, such as notes.txt"),
    ("shards without a plan", put("features-000000.tar"), "holds other files, such as features-000000.tar"),
    ("features of recordings", put("rec000.npy"), "holds other files, such as rec000.npy"),
    ("unfinished, another size", interrupted(size=9000), "unfinished shards of other recordings, --size or --dtype"),
    ("unfinished, another type", interrupted(dtype="float16"), "unfinished shards of other"),
    ("a broken plan", put("shards.unfinished.json", b"{"), "shards.unfinished.json is not valid JSON"),
    ("finished, another size", finished(size=9000), "holds finished shards of other features"),
]


@pytest.mark.parametrize(("label", "change", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_there_is_never_lost(
    tmp_path: Path, names: list[str], label: str, change: Callable[[Path], object], message: str
) -> None:
    target = tmp_path / "s"
    change(target)
    before = contents(target)
    with pytest.raises(EventideError, match=message):
        shard_folder(str(tmp_path / "features"), target, names)
    assert contents(target) == before


def test_finished_shards_of_features_that_changed_are_left_alone(tmp_path: Path, names: list[str]) -> None:
    shard_folder(str(tmp_path / "features"), tmp_path / "s", names)
    os.utime(tmp_path / "features" / "rec004.npy", ns=(1, 1))
    with pytest.raises(UsageError, match="finished shards of other features"):
        shard_folder(str(tmp_path / "features"), tmp_path / "s", names)


TYPES = [
    ("float16 stays", "float16", "keep", "float16"),
    ("float32 stays", "float32", "keep", "float32"),
    ("float64 as it is read", "float64", "keep", "float32"),
    ("rounded", "float32", "float16", "float16"),
    ("widened", "float16", "float32", "float32"),
]


@pytest.mark.parametrize(("label", "stored", "asked", "found"), TYPES, ids=[row[0] for row in TYPES])
def test_number_types(tmp_path: Path, label: str, stored: str, asked: Any, found: str) -> None:
    names = write_many(tmp_path / "features", 3, dtype=stored)
    shard_folder(str(tmp_path / "features"), tmp_path / "s", names, dtype=asked)
    folder, shards = (FeatureStore(str(tmp_path / name), input_dim=4) for name in ("features", "s"))
    for name in names:
        expected = folder.read(name)
        if asked == "float16":
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(shards.read(name), expected)
        assert shards.header(shards.sources(name)[0]).dtype == found


def test_other_formats_and_joined_folders(tmp_path: Path) -> None:
    names = write_many(tmp_path / "rgb", 4, channels=3, dtype=np.float16)
    with h5py.File(tmp_path / "flow.h5", "w") as file:
        for name in names:
            file[name] = np.load(tmp_path / "rgb" / f"{name}.npy")[:-1, :2].astype(np.float32)
    sources = [str(tmp_path / "rgb"), str(tmp_path / "flow.h5")]
    shard_folder(sources, tmp_path / "s", names)
    joined, shards = FeatureStore(sources, input_dim=[3, 2]), FeatureStore(str(tmp_path / "s"), input_dim=[3, 2])
    for name in names:
        np.testing.assert_array_equal(shards.read(name), joined.read(name))
    shard_folder(str(tmp_path / "s"), tmp_path / "again", names, size=10**6)  # shards of shards
    assert _read(tmp_path / "again", names) == _read(tmp_path / "s", names)


def test_bfloat16_tensors(tmp_path: Path) -> None:
    values = torch.linspace(-3, 3, 20).reshape(5, 4).to(torch.bfloat16)
    torch.save(values, tmp_path / "a.pt")
    shard_folder(str(tmp_path), tmp_path / "s", ["a"], ext=".pt")
    np.testing.assert_array_equal(FeatureStore(str(tmp_path / "s"), input_dim=4).read("a"), values.float().numpy())


def _read(folder: Path, names: list[str]) -> list[bytes]:
    store = FeatureStore(str(folder))
    return [store.read(name).tobytes() for name in names]


def test_long_recordings_are_written_in_parts(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_folder(str(tmp_path / "features"), tmp_path / "a", names)
    monkeypatch.setattr(shard_writing, "_CHUNK", 100)
    shard_folder(str(tmp_path / "features"), tmp_path / "b", names)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def nan(folder: Path) -> None:
    np.save(folder / "rec005.npy", np.full((9, 4), np.nan, np.float32))


def large(folder: Path) -> None:
    np.save(folder / "rec005.npy", np.full((9, 4), 70_000, np.float32))


def two_shapes(folder: Path) -> None:
    np.save(folder / "rec005.npy", np.zeros((9, 5), np.float32))
    np.save(folder / "rec006.npy", np.zeros(9, np.float32))


WRONG = [
    ("NaN", nan, r"rec005\.npy: 36 values are NaN.* are finished and kept: mend this and run"),
    ("beyond float16", large, r"'rec005': its features go up to 70000, beyond float16 \(65504\)"),
    ("wrong shapes", two_shapes, r"(?s)2 problems.*rec005.npy: shape \(9, 5\).*rec006.npy: shape \(9\)"),
]


@pytest.mark.parametrize(("label", "damage", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_wrong_features_are_named_and_can_be_mended(
    tmp_path: Path, names: list[str], label: str, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "features"
    good = {name: (folder / name).read_bytes() for name in ("rec005.npy", "rec006.npy")}
    damage(folder)
    with pytest.raises(EventideError, match=message):
        shard_folder(str(folder), tmp_path / "s", names, dtype="float16", input_dim=4)
    for name, data in good.items():
        (folder / name).write_bytes(data)
    shard_folder(str(folder), tmp_path / "s", names, dtype="float16", input_dim=4)
    shard_folder(str(folder), tmp_path / "t", names, dtype="float16", input_dim=4)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_two_commands_at_a_time(tmp_path: Path, names: list[str]) -> None:
    """The second one leaves the first alone."""
    source, target = str(tmp_path / "features"), tmp_path / "s"

    def again(what: str, done: int, total: int) -> None:
        with pytest.raises(EventideError, match="another eventide shard is writing there"):
            shard_folder(source, target, names)

    done = shard_folder(source, target, names, progress=again)
    assert shard_folder(source, target, names).kept == done.shards


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = shard_writing._write_member, 0

    def write(file: BinaryIO, *rest: Any) -> None:
        nonlocal count
        count += 1
        if count == 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, *rest)

    monkeypatch.setattr(shard_writing, "_write_member", write)
    with pytest.raises(EventideError, match=r"No space left on device; [1-9] of \d+ shards are finished and kept"):
        shard_folder(str(tmp_path / "features"), tmp_path / "s", names)
    assert not [name for name in contents(tmp_path / "s") if name.endswith(".tmp")]
    assert shard_folder(str(tmp_path / "features"), tmp_path / "s", names).kept > 0


def test_too_little_room_is_told_before_anything_is_written(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_writing.shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(UsageError, match=r"0\.0 MB are needed, but the disk has 0\.0 MB left"):
        shard_folder(str(tmp_path / "features"), tmp_path / "s", names)
    assert not (tmp_path / "s").exists()


def test_to_a_url_as_to_a_folder(tmp_path: Path, names: list[str]) -> None:
    source = str(tmp_path / "features")
    shard_folder(source, tmp_path / "s", names)
    with failing_store() as kind:
        with pytest.raises(KeyboardInterrupt):
            shard_folder(source, "failing://b/s", names, progress=stop_after(2))
        with pytest.raises(UsageError, match="not finished"):
            FeatureStore("failing://b/s")
        assert shard_folder(source, "failing://b/s", names).kept == 2
        found = {path.rsplit("/", 1)[-1]: file.getvalue() for path, file in kind.store.items()}
        assert found == contents(tmp_path / "s")
        with pytest.raises(UsageError, match="finished shards of other"):
            shard_folder(source, "failing://b/s", names[:5])


@pytest.mark.slow
def test_kills_at_any_moment(tmp_path: Path) -> None:
    """kill -9, again and again until it is done: the result is that of a run that was left alone."""
    names = write_many(tmp_path / "features", 150, channels=64)
    shard_folder(str(tmp_path / "features"), tmp_path / "whole", names, size=20_000)
    code = (
        "import sys; from tests.data.making_shards import shard_folder;"
        "names = [f'rec{i:03d}' for i in range(150)];"
        "print('go', flush=True); shard_folder(sys.argv[1], sys.argv[2], names, size=20_000)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "features"), str(tmp_path / "s")]
    rng, killed = np.random.default_rng(0), 0
    for _ in range(40):
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.15)))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        if (tmp_path / "s" / "shards.json").exists():
            break
    assert killed > 2
    shard_folder(str(tmp_path / "features"), tmp_path / "s", names, size=20_000, progress=quiet)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "s" / "shards.json").read_text())["version"] == 1


def test_a_folder_that_is_a_file(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "s").write_text("x")
    with pytest.raises(EventideError, match="s: cannot be read: Not a directory"):
        shard_folder(str(tmp_path / "features"), tmp_path / "s", names)
    assert isinstance(LocalFolder(str(tmp_path / "none")).sizes(), dict)
