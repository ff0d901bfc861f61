"""Feature shards: the same numbers as the folder, everything that can be wrong with them, and hiccups of networks."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventide.data import places, remote
from eventide.data.features import FeatureStore
from eventide.data.places import open_place
from eventide.data.shard_index import Entry, ShardIndex, parse_index
from eventide.data.shard_plan import Planned, member_start, plan_shards
from eventide.data.shards import ShardSet
from eventide.types import EventideError, UsageError
from tests.data.making_shards import FailingFileSystem, failing_store, shard_folder, write_many


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FailingFileSystem]]:
    monkeypatch.setattr(remote, "DELAYS", (0.0, 0.0, 0.0))
    with failing_store() as kind:
        yield kind


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with `features` of 12 recordings and `shards` of them."""
    names = write_many(tmp_path / "features", 12)
    shard_folder(str(tmp_path / "features"), tmp_path / "shards", names)
    return tmp_path


SLICES = [
    ("whole", None, None, 1),
    ("window", 2, 9, 1),
    ("every third", 1, 20, 3),
    ("beyond the end", 5, 1000, 2),
    ("nothing", 4, 4, 1),
    ("backwards is nothing", 6, 2, 1),
    ("last ones", -3, None, 1),
]


@pytest.mark.parametrize(("label", "start", "stop", "step"), SLICES, ids=[row[0] for row in SLICES])
def test_rows_are_those_of_the_folder(made: Path, label: str, start: Any, stop: Any, step: int) -> None:
    folder, shards = (FeatureStore(str(made / name), input_dim=4) for name in ("features", "shards"))
    for name in folder.ids():
        expected, found = folder.read(name, start, stop, step), shards.read(name, start, stop, step)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        found[...] = 0  # a copy of its own


def test_lengths_headers_and_ids_come_from_the_index(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, shards = (FeatureStore(str(made / name), input_dim=4) for name in ("features", "shards"))
    monkeypatch.setattr(os, "open", None)
    assert shards.ids() == folder.ids() == [f"rec{index:03d}" for index in range(12)]
    assert [shards.length(name) for name in shards.ids()] == [folder.length(name) for name in shards.ids()]
    assert shards.header(shards.sources("rec003")[0]) == folder.header(folder.sources("rec003")[0])
    assert shards.exists("rec011")
    assert not shards.exists("rec012")
    assert str(shards.missing("rec012")[0]) == f"{made / 'shards'}[rec012]"
    assert "made without it" in shards.missing_hint("rec012")
    assert shards.problems() == []


def test_any_tar_reader_and_numpy_read_shards(made: Path) -> None:
    found = {}
    for path in sorted((made / "shards").glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                assert np.lib.format.read_magic(file) == (1, 0)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                found[member.name] = np.frombuffer(file.read(), dtype).reshape(shape)
                assert not fortran
    for path in (made / "features").glob("*.npy"):
        np.testing.assert_array_equal(found.pop(path.name), np.load(path))
    assert found == {}
    assert len(list((made / "shards").glob("*.tar"))) > 3


def test_a_list_of_shards_and_folders_is_joined(made: Path) -> None:
    names = write_many(made / "more", 12, channels=2, seed=5)
    both = FeatureStore([str(made / "features"), str(made / "more")], input_dim=[4, 2])
    mixed = FeatureStore([str(made / "shards"), str(made / "more")], input_dim=[4, 2])
    for name in names:
        np.testing.assert_array_equal(mixed.read(name), both.read(name))


def test_a_prefix_is_for_files_only(made: Path) -> None:
    assert FeatureStore(str(made / "shards"), "v_", ".npz", 4).exists("rec000")


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    limit=st.integers(1, 6000),
    dtype=st.sampled_from(["float16", "float32"]),
    name=st.text(st.characters(exclude_characters="/\\\0", exclude_categories=("Cs",)), min_size=1, max_size=130),
)
def test_the_plan_is_the_bytes(lengths: list[int], limit: int, dtype: str, name: str) -> None:
    """Whatever the names and sizes: members follow one another, none is cut, and shards keep to the limit."""
    recordings = [Planned(f"{name}{index}", length, 3, dtype) for index, length in enumerate(lengths)]
    plan = plan_shards(recordings, limit, "o")
    assert sorted(member.id for shard in plan.shards for member in shard) == sorted(item.id for item in recordings)
    for number, members in enumerate(plan.shards):
        position = 0
        for member in members:
            start = member_start(member)
            entry = plan.index.find(member.id)
            assert entry == Entry(number, position + len(start), member.rows, 3, dtype)
            position += len(start) + member.size
            position += -position % 512
        assert plan.index.sizes[number] == position + 1024
        assert position + 1024 <= limit or len(members) == 1
    again = parse_index(plan.index.to_json(), "index")
    assert again.names() == plan.index.names()
    assert [again.find(item.id) for item in recordings] == [plan.index.find(item.id) for item in recordings]


def index_of(*ids: str) -> ShardIndex:
    return ShardIndex.of("o", [("a.tar", 9999)], list(ids), [Entry(0, 512, 2, 3, "float32")] * len(ids))


@pytest.mark.parametrize(
    ("label", "ids", "wanted", "there"),
    [
        ("no recordings", [], "a", False),
        ("the one", ["a"], "a", True),
        ("empty id", ["a"], "", False),
        ("longer than all", ["a", "b"], "bb", False),
        ("a beginning", ["abc"], "ab", False),
        ("after the last", ["a", "b"], "c", False),
        ("other letters", ["a", "ß", "漢"], "漢", True),
        ("half a letter", ["a", "漢"], "\udce6", False),
    ],
)
def test_finding(label: str, ids: list[str], wanted: str, there: bool) -> None:
    assert (index_of(*ids).find(wanted) is not None) == there


def changed(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["recordings"].update(changes)


DAMAGES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("another format", lambda c: c.update(format="x"), "is no index of feature shards"),
    ("a later version", lambda c: c.update(version=2), "version 2, but this Eventide reads version 1"),
    ("no recordings", lambda c: c.pop("recordings"), "damaged .KeyError"),
    ("a column too short", changed(rows=[1]), "damaged .*expected 2 whole numbers"),
    ("a text", changed(rows=["1", "2"]), "damaged .*expected 2 whole numbers"),
    ("a fraction", changed(offset=[1.5, 2.5]), "damaged"),
    ("a huge number", changed(offset=[2**70, 1]), "damaged"),
    ("negative", changed(rows=[-1, 2]), "a negative number"),
    ("a product beyond int64", changed(rows=[2**62, 2**62]), "ends after the end"),
    ("after the end", changed(offset=[9990, 9990]), "ends after the end of its shard"),
    ("an unknown type", changed(dtype="int8"), "damaged"),
    ("no such shard", changed(shard=[0, 1]), "a shard that is not listed"),
    ("unsorted", changed(id=["b", "a"]), "not sorted"),
    ("twice", changed(id=["a", "a"]), "not sorted"),
    ("numbers as ids", changed(id=[1, 2]), "no list of texts"),
    ("a path as shard", lambda c: c["shards"].update(name=["../a.tar"]), r"a shard is named '\.\./a\.tar'"),
]


@pytest.mark.parametrize(("label", "damage", "message"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_a_wrong_index_is_refused(label: str, damage: Callable[[dict[str, Any]], object], message: str) -> None:
    content = json.loads(index_of("a", "b").to_json())
    damage(content)
    with pytest.raises(EventideError, match=message) as caught:
        parse_index(json.dumps(content).encode(), "DIR/shards.json")
    assert str(caught.value).startswith("DIR/shards.json: ")


def test_cut_off_and_missing_shards_are_noticed_at_once(made: Path) -> None:
    first, second, third, *_ = sorted((made / "shards").glob("*.tar"))
    os.truncate(first, 700)
    second.unlink()
    with third.open("ab") as file:
        file.write(b"x")
    with pytest.raises(EventideError, match="3 problems") as caught:
        FeatureStore(str(made / "shards"), input_dim=4)
    assert "features-000000.tar: the shard is cut off, or still being copied" in str(caught.value)
    assert "features-000001.tar: the shard is missing" in str(caught.value)
    assert "features-000002.tar: is no shard of this index" in str(caught.value)


def test_shards_that_go_while_they_are_read(made: Path) -> None:
    store = FeatureStore(str(made / "shards"), input_dim=4)
    (made / "shards" / "features-000000.tar").unlink()
    with pytest.raises(EventideError, match=r"features-000000\.tar: the shard is missing; copy it again"):
        store.read("rec000")
    os.truncate(made / "shards" / "features-000001.tar", 513)
    last = store._shards[str(made / "shards")].index.shard.tolist().index(1)
    with pytest.raises(EventideError, match=r"features-000001\.tar: the shard is cut off"):
        store.read(f"rec{last:03d}")


def test_nan_in_a_shard_is_named_as_in_a_file(made: Path) -> None:
    shard = made / "shards" / "features-000000.tar"
    entry = ShardSet(str(made / "shards")).index.find("rec000")
    assert entry is not None
    data = bytearray(shard.read_bytes())
    data[entry.offset + 8 : entry.offset + 12] = np.float32(np.nan).tobytes()
    shard.write_bytes(data)
    with pytest.raises(EventideError, match=r"shards\[rec000\]: 1 values are NaN or Inf, the first in .*0, channel 2"):
        FeatureStore(str(made / "shards"), input_dim=4).read("rec000")


def test_few_files_stay_open(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_OPEN", 2)
    folder = made / "shards"
    store = FeatureStore(str(folder), input_dim=4)
    for name in [*store.ids(), *reversed(store.ids())]:
        store.read(name)
    assert len(open_in(folder)) == 2
    del store
    assert open_in(folder) == []


def open_in(folder: Path) -> list[Path]:
    """The files of a folder that this process has open; others may come and go, whenever garbage is collected."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed the folder is gone
            found.append(Path(os.readlink(f"/proc/self/fd/{number}")))
    return [path for path in found if path.parent == folder.resolve()]


def _read_all(store: FeatureStore) -> bytes:
    return b"".join(store.read(name).tobytes() for name in store.ids())


@pytest.mark.parametrize("where", ["local", "URL"])
def test_forked_and_pickled_stores_read_the_same(made: Path, where: str, failing: type[FailingFileSystem]) -> None:
    target = str(made / "shards") if where == "local" else "failing://bucket/shards"
    if where == "URL":
        shard_folder(str(made / "features"), target, [f"rec{index:03d}" for index in range(12)])
    store = FeatureStore(target, input_dim=4)
    expected = _read_all(store)
    assert _read_all(pickle.loads(pickle.dumps(store))) == expected
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_read_all, [store] * 4) == [expected] * 4


def test_a_read_by_url_is_one_request_for_the_wanted_bytes(made: Path, failing: type[FailingFileSystem]) -> None:
    shard_folder(str(made / "features"), "failing://b/s", ["rec000"])
    store = FeatureStore("failing://b/s/", input_dim=4)
    failing.reads.clear()
    expected = np.load(made / "features" / "rec000.npy")
    np.testing.assert_array_equal(store.read("rec000", 3, 9, 2), expected[3:9:2])
    entry = store._shards["failing://b/s"].index.find("rec000")
    assert entry is not None
    assert failing.reads == [("/b/s/features-000000.tar", entry.offset + 48, entry.offset + 144)]


FAILURES = [
    ("one hiccup", [OSError("reset")], ""),
    ("as many as are borne", [OSError("reset"), TimeoutError(), ConnectionError("x")], ""),
    ("one more", [OSError("a")] * 3 + [OSError("end")], r"features-000000\.tar: cannot be read \(4 tries; end\)"),
    ("an error of a library", [RuntimeError("odd")] * 4, r"4 tries; odd.*check the address"),
    ("no permission", [PermissionError("403")], r"no permission \(403\); check your credentials"),
    ("not repeated", [ValueError("bad")], r"cannot be read \(1 try; bad\)"),
    ("gone", [FileNotFoundError("x")], "the shard is missing"),
]


@pytest.mark.parametrize(("label", "errors", "message"), FAILURES, ids=[row[0] for row in FAILURES])
def test_hiccups_of_the_network(
    made: Path, failing: type[FailingFileSystem], label: str, errors: list[Exception], message: str
) -> None:
    shard_folder(str(made / "features"), "failing://b/s", ["rec000"])
    store = FeatureStore("failing://b/s", input_dim=4)
    failing.errors[:] = errors
    if not message:
        np.testing.assert_array_equal(store.read("rec000"), np.load(made / "features" / "rec000.npy"))
    else:
        with pytest.raises(EventideError, match=message) as caught:
            store.read("rec000")
        assert str(caught.value).count("failing://b/s") == 1
    assert failing.errors == []


def test_pauses_grow_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    with failing_store() as kind:
        kind.errors[:] = [OSError("x")] * 5
        with pytest.raises(EventideError, match="5 tries"):
            FeatureStore("failing://b/s", input_dim=4)
    assert slept == [0.5, 1.0, 2.0, 4.0]


def test_a_shard_cut_off_behind_a_url(made: Path, failing: type[FailingFileSystem]) -> None:
    shard_folder(str(made / "features"), "failing://b/s", ["rec000", "rec001"])
    store = FeatureStore("failing://b/s", input_dim=4)
    assert store.problems() == []
    fsspec.filesystem("failing").pipe_file("/b/s/features-000000.tar", bytes(600))
    with pytest.raises(EventideError, match=r"failing://b/s/features-000000\.tar: the shard is cut off"):
        store.read("rec000")
    (problem,) = store.problems()
    assert "the shard is cut off" in problem
    assert "600 of" in problem
    failing.store.pop("/b/s/features-000000.tar")
    assert "the shard is missing" in store.problems()[0]


def test_a_server_without_ranges(made: Path, failing: type[FailingFileSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    shard_folder(str(made / "features"), "failing://b/s", ["rec000"])
    store = FeatureStore("failing://b/s", input_dim=4)
    monkeypatch.setattr(failing, "cat_file", lambda self, path, start=None, end=None: bytes(10_000))
    with pytest.raises(EventideError, match="sends whole files where a range of bytes is asked for"):
        store.read("rec000")


PLACES = [
    ("no index", "failing://b/none", UsageError, r"failing://b/none: holds no shards\.json"),
    ("a kind that does not exist", "nosuch://b/s", UsageError, "no such kind of URL: Protocol not known: nosuch"),
    ("a missing package", "oss://b/s", UsageError, r"Install ossfs .*\(with pip"),
]


@pytest.mark.parametrize(("label", "url", "kind", "message"), PLACES, ids=[row[0] for row in PLACES])
def test_urls_that_lead_nowhere(
    failing: type[FailingFileSystem], label: str, url: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        FeatureStore(url, input_dim=4)


def test_file_urls_are_folders(made: Path) -> None:
    store = FeatureStore(f"file://{made / 'shards'}", input_dim=4)
    assert store.folders == [str(made / "shards")]
    assert isinstance(store._shards[str(made / "shards")].place, places.LocalFolder)


def test_a_password_in_a_url_is_not_shown() -> None:
    assert open_place("ftp://me:secret@host/shards").name == "ftp://me:***@host/shards"
    assert open_place("failing://b@c/shards").name == "failing://b@c/shards"
