"""Feature files of every format: shapes, rows, joined folders, and everything that can be wrong with them."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from eventide.data.features import FeatureStore
from eventide.data.formats import read_header
from eventide.types import EventideError, UsageError

FEATURES = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)

Writer = Callable[[Path, np.ndarray], object]


def write_h5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["anything"] = array


def write_named_h5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["other"] = array, np.zeros(3)


WRITERS: list[tuple[str, str, Writer]] = [
    ("npy", ".npy", np.save),
    ("npy in Fortran order", ".npy", lambda path, array: np.save(path, np.asfortranarray(array))),
    ("npz", ".npz", lambda path, array: np.savez(path, array)),
    ("npz, compressed, named", ".npz", lambda path, array: np.savez_compressed(path, feats=array, other=np.zeros(2))),
    ("npz in Fortran order", ".npz", lambda path, array: np.savez(path, feats=np.asfortranarray(array))),
    ("h5", ".h5", write_h5),
    ("hdf5, named", ".hdf5", write_named_h5),
    ("pt", ".pt", lambda path, array: torch.save(torch.from_numpy(array), path)),
    ("pt, in a dictionary", ".pt", lambda path, array: torch.save({"feats": torch.from_numpy(array), "id": 1}, path)),
    (
        "pt of old versions",
        ".pt",
        lambda path, array: torch.save(torch.from_numpy(array), path, _use_new_zipfile_serialization=False),
    ),
    ("safetensors", ".safetensors", lambda path, array: save_file({"x": np.ascontiguousarray(array)}, path)),
]
FORMATS = [pytest.param(ext, write, id=name) for name, ext, write in WRITERS]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("ext", "write"), FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, ext: str, write: Writer, dtype: type) -> None:
    stored = FEATURES.astype(dtype)
    write(tmp_path / f"v_rec{ext}", stored)
    store = FeatureStore(str(tmp_path), "v_", ext, 4)
    expected = stored.astype(np.float32)
    assert store.exists("rec")
    assert store.length("rec") == 13
    for start, stop, step in [(None, None, 1), (0, 1, 1), (3, 9, 1), (12, 13, 1), (2, 12, 3), (5, 100, 1), (4, 4, 1)]:
        rows = store.read("rec", start, stop, step)
        assert rows.dtype == np.float32
        assert rows.flags.writeable
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, expected[start:stop:step])


def test_bfloat16_tensors(tmp_path: Path) -> None:
    tensor = torch.from_numpy(FEATURES).bfloat16()
    torch.save(tensor, tmp_path / "a.pt")
    save_tensors({"feats": tensor}, tmp_path / "a.safetensors")
    for ext in ("pt", "safetensors"):  # an ending without a dot is understood
        np.testing.assert_array_equal(FeatureStore(str(tmp_path), "", ext, 4).read("a"), tensor.float().numpy())


@pytest.mark.parametrize("layout", ["data set", "group"])
def test_one_hdf5_file_with_a_data_set_per_recording(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "anet.hdf5"
    with h5py.File(path, "w") as file:
        file["v_rec" if layout == "data set" else "v_rec/c3d_features"] = FEATURES
    store = FeatureStore(str(path), "v_", ".npy", 4)
    assert store.exists("rec")
    assert not store.exists("other")
    assert str(store.missing("other")[0]) == f"{path}[v_other]"
    assert store.length("rec") == 13
    np.testing.assert_array_equal(store.read("rec", 2, 5), FEATURES[2:5])
    with pytest.raises(EventideError, match="holds no data set 'v_other'"):
        store.length("other")


def test_only_the_wanted_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The array stays a memory map until the rows are taken, so that the others never leave the disk."""
    np.save(tmp_path / "a.npy", FEATURES)
    seen = []
    real = np.load

    def load(*args: object, **options: object) -> np.ndarray:
        found = real(*args, **options)  # type: ignore[arg-type, call-overload]
        seen.append((type(found), options.get("mmap_mode"), options.get("allow_pickle")))
        return found

    monkeypatch.setattr(np, "load", load)
    FeatureStore(str(tmp_path), input_dim=4).read("a", 3, 5)
    assert set(seen) == {(np.memmap, "r", False)}


def folders(tmp_path: Path, *shapes: tuple[int, int]) -> list[str]:
    paths = []
    for index, shape in enumerate(shapes):
        folder = tmp_path / f"stream{index}"
        folder.mkdir()
        np.save(folder / "a.npy", np.full(shape, index, np.float32))
        paths.append(str(folder))
    return paths


@pytest.mark.parametrize("input_dim", [9, [2, 3, 4]], ids=["total", "per folder"])
def test_folders_are_joined_along_channels_and_cut_to_the_shortest(tmp_path: Path, input_dim: int | list[int]) -> None:
    store = FeatureStore(folders(tmp_path, (10, 2), (8, 3), (9, 4)), input_dim=input_dim)
    rows = store.read("a", 1, None)
    assert store.length("a") == 8
    assert rows.shape == (7, 9)
    assert rows[0].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    paths = folders(tmp_path, (10, 2), (7, 3))
    with pytest.raises(EventideError, match=r"stream0/a.npy has 10, .*stream1/a.npy has 7") as caught:
        FeatureStore(paths, input_dim=5).length("a")
    assert "differ by more than 2" in str(caught.value)
    with pytest.raises(EventideError, match=r"2 \+ 3 = 5 channels, but dataset.input_dim is 6"):
        FeatureStore(paths, input_dim=6).length("a")
    with pytest.raises(EventideError, match=r"stream1/a.npy: shape \(7, 3\) has 3 channels, .* is 4"):
        FeatureStore(paths, input_dim=[2, 4]).length("a")


def npy(array: np.ndarray) -> Writer:
    return lambda path, _: np.save(path, array, allow_pickle=True)


class Boom:
    """An object whose unpickling would be seen."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


BAD_FILES = [
    pytest.param(".npy", npy(np.zeros((4, 9), np.float32)), r"\(4, 9\) looks like \(C, T\)", id="transposed"),
    pytest.param(
        ".npy", npy(np.zeros((9, 5), np.float32)), r"has 5 channels, but dataset.input_dim is 4", id="wrong C"
    ),
    pytest.param(".npy", npy(np.zeros(9, np.float32)), r"shape \(9\); expected two dimensions", id="one dimension"),
    pytest.param(".npy", npy(np.zeros((1, 9, 4), np.float32)), "expected two dimensions", id="three dimensions"),
    pytest.param(".npy", npy(np.zeros((), np.float32)), "expected two dimensions", id="a number"),
    pytest.param(".npy", npy(np.zeros((0, 4), np.float32)), "there are no feature vectors", id="no vectors"),
    pytest.param(".npy", npy(np.zeros((9, 4), np.int64)), "numbers of type int64", id="integers"),
    pytest.param(".npy", npy(np.zeros((9, 4), np.complex64)), "numbers of type complex64", id="complex"),
    pytest.param(".npy", npy(np.array([Boom()], dtype=object)), "Python objects", id="objects in npy"),
    pytest.param(".npy", lambda path, _: path.write_bytes(b""), r"empty \(0 bytes\)", id="0 bytes"),
    pytest.param(".npy", lambda path, _: path.write_bytes(b"hello"), "a.npy: .*no .npy file", id="no npy"),
    pytest.param(".npy", lambda path, a: path.write_bytes(npy_bytes(a)[:-9]), "cannot read", id="npy cut off"),
    pytest.param(".npy", lambda path, a: np.savez(path.open("wb"), a), "ending .npy; rename", id="npz called npy"),
    pytest.param(".npz", lambda path, _: path.write_bytes(b"PK\x03\x04"), "cannot read", id="npz cut off"),
    pytest.param(".npz", lambda path, a: np.savez(path, b=a, c=a), "one array, or one named.*b, c", id="two arrays"),
    pytest.param(".npz", lambda path, a: np.savez(path), "found: none", id="no array"),
    pytest.param(
        ".npz", lambda path, _: np.savez(path, np.array([Boom()], dtype=object)), "Python objects", id="objects in npz"
    ),
    pytest.param(".h5", lambda path, _: path.write_bytes(b"x" * 100), "cannot read", id="no h5"),
    pytest.param(".pt", lambda path, _: torch.save(Boom(), path), "other than tensors", id="objects in pt"),
    pytest.param(".pt", lambda path, _: path.write_bytes(pickle.dumps(Boom())), "a.pt: ", id="a pickle"),
    pytest.param(".pt", lambda path, _: torch.save([1, 2], path), "expected a tensor", id="a list"),
    pytest.param(".pt", lambda path, _: path.write_bytes(b"x" * 100), "a.pt: ", id="no pt"),
    pytest.param(".safetensors", lambda path, _: path.write_bytes(b"x" * 100), "cannot read", id="no safetensors"),
]


def npy_bytes(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(("ext", "write", "message"), BAD_FILES)
def test_unfit_files_are_named(tmp_path: Path, ext: str, write: Writer, message: str) -> None:
    write(tmp_path / f"a{ext}", FEATURES)
    store = FeatureStore(str(tmp_path), "", ext, 4)
    with pytest.raises(EventideError, match=message) as caught:
        store.read("a")
    assert str(tmp_path / f"a{ext}") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_found_where_they_are(tmp_path: Path, value: float) -> None:
    features = FEATURES.copy()
    features[7, 2] = value
    np.save(tmp_path / "a.npy", features)
    store = FeatureStore(str(tmp_path), input_dim=4)
    with pytest.raises(EventideError, match=r"1 values are NaN or Inf, the first in feature vector 7, channel 2"):
        store.read("a", 5, 9)
    with pytest.raises(EventideError, match="feature vector 7, channel 2"):
        store.read("a", 1, 13, 3)
    assert store.read("a", 8, 9).shape == (1, 4)


def test_float64_beyond_float32_is_inf(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 4), 1e300))
    with pytest.raises(EventideError, match="12 values are NaN or Inf"):
        FeatureStore(str(tmp_path), input_dim=4).read("a")


@pytest.mark.parametrize("name", ["../secret", "a/b", "a\\b", "..", ".", "", "a\0b"])
def test_ids_never_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "secret.npy", FEATURES)
    store = FeatureStore(str(tmp_path / "features"), input_dim=4)
    for ask in (store.exists, store.length, store.read, store.sources):
        with pytest.raises(EventideError, match="no plain file name"):
            ask(name)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("x")
    with pytest.raises(UsageError, match="does not exist"):
        FeatureStore(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="neither a folder nor an HDF5 file"):
        FeatureStore([str(tmp_path), str(file)])
    with pytest.raises(UsageError, match="no feature folder is given"):
        FeatureStore("")


def test_missing_files_and_what_might_be_meant(tmp_path: Path) -> None:
    store = FeatureStore(str(tmp_path), input_dim=4)
    assert not store.exists("a")
    assert store.missing_hint("a") == ""
    with pytest.raises(EventideError, match=r"a\.npy: no such feature file"):
        store.length("a")
    np.savez(tmp_path / "a.npz", FEATURES)
    assert store.missing_hint("a") == "a.npz is there: set dataset.file_ext to .npz"
    np.save(tmp_path / "v_b.npy", FEATURES)
    assert store.missing_hint("b") == "v_b.npy is there: set dataset.file_prefix to 'v_'"
    assert FeatureStore(str(tmp_path), "v_", ".npy", 4).exists("b")


def test_unknown_formats_and_a_missing_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(EventideError, match=r"unknown feature format '.csv'; known: .npy"):
        read_header(tmp_path / "a.csv")
    write_h5(tmp_path / "a.h5", FEATURES)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EventideError, match=r"needs h5py: pip install 'eventide\[hdf5\]'"):
        read_header(tmp_path / "a.h5")
