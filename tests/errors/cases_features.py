"""Ways to get feature files wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from eventide.data.dataset import EventDataset
from eventide.data.features import FeatureStore
from tests.data.making import make_data, write_config, write_json
from tests.errors.error_case import ErrorCase, run_cli


class Code:
    """An object that would run code if it were unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def array(values: Any, ext: str = ".npy") -> Callable[[Path], object]:
    """Read features of 4 channels from a file with this array."""

    def run(folder: Path) -> object:
        save: Any = np.save if ext == ".npy" else np.savez
        save(folder / f"v1{ext}", values, **({"allow_pickle": True} if ext == ".npy" else {}))
        return FeatureStore(str(folder), "", ext, 4).read("v1")

    return run


def bytes_of(content: bytes, ext: str = ".npy") -> Callable[[Path], object]:
    """Read features from a file with these bytes."""

    def run(folder: Path) -> object:
        (folder / f"v1{ext}").write_bytes(content)
        return FeatureStore(str(folder), "", ext, 4).read("v1")

    return run


def pickled(folder: Path) -> object:
    import torch

    torch.save(Code(), folder / "v1.pt")
    return FeatureStore(str(folder), "", ".pt", 4).read("v1")


def two_arrays(folder: Path) -> object:
    np.savez(folder / "v1.npz", rgb=np.zeros((5, 4)), flow=np.zeros((5, 4)))
    return FeatureStore(str(folder), "", ".npz", 4).read("v1")


def without_h5py(folder: Path) -> object:
    (folder / "v1.h5").write_bytes(b"x")
    with mock.patch.dict(sys.modules, {"h5py": None}):
        return FeatureStore(str(folder), "", ".h5", 4).read("v1")


def missing(folder: Path) -> object:
    config = make_data(folder)
    (folder / "features" / "rec2.npy").rename(folder / "features" / "v_rec2.npy")
    return EventDataset(config, ["training"], training=True)


def no_folder(folder: Path) -> object:
    config = make_data(folder, feat_folder=str(folder / "feature"))
    return EventDataset(config, ["training"], training=True)


def unlike_lengths(folder: Path) -> object:
    for name, length in (("rgb", 50), ("flow", 45)):
        (folder / name).mkdir()
        np.save(folder / name / "v1.npy", np.zeros((length, 2), np.float32))
    return FeatureStore([str(folder / "rgb"), str(folder / "flow")], input_dim=4).read("v1")


def path_as_id(folder: Path) -> object:
    make_data(folder)
    write_json(folder / "annotations.json", {"../v1": {"subset": "training"}, "v2": {"subset": "validation"}})
    return FeatureStore(str(folder / "features"), input_dim=4).read("../v1")


def checked_nan(folder: Path) -> object:
    make_data(folder)
    values = np.zeros((50, 4), np.float16)
    values[20, 1] = np.nan
    np.save(folder / "features" / "rec1.npy", values)
    return run_cli(["check", write_config(folder / "config.yaml", folder)], folder)


CASES = [
    ErrorCase("features: no folder", "named a feature folder that does not exist", no_folder, "does not exist", 2),
    ErrorCase(
        "features: missing file",
        "gave no feature file for a recording (but one with a prefix)",
        missing,
        "recording 'rec2': no feature file .*set dataset.file_prefix to 'v_'",
        1,
    ),
    ErrorCase(
        "features: wrong channels",
        "gave features of 5 channels where 4 are configured",
        array(np.zeros((9, 5), np.float32)),
        r"shape \(9, 5\) has 5 channels, but dataset.input_dim is 4",
        1,
    ),
    ErrorCase(
        "features: transposed",
        "gave transposed features",
        array(np.zeros((4, 9), np.float32)),
        r"looks like \(C, T\)",
        1,
    ),
    ErrorCase("features: one dimension", "gave a vector", array(np.zeros(9, np.float32)), "expected two dimensions", 1),
    ErrorCase(
        "features: no vectors", "gave no feature vectors", array(np.zeros((0, 4), np.float32)), "no feature vectors", 1
    ),
    ErrorCase("features: integers", "gave integers", array(np.zeros((9, 4), np.int64)), "numbers of type int64", 1),
    ErrorCase(
        "features: Inf",
        "gave features with Inf",
        array(np.full((9, 4), np.inf, np.float32)),
        "36 values are NaN or Inf, the first in feature vector 0, channel 0",
        1,
    ),
    ErrorCase("features: NaN", "gave features with NaN (`eventide check`)", checked_nan, "vector 20, channel 1", 1),
    ErrorCase(
        "features: Python objects in npy",
        "gave a .npy file of Python objects",
        array(np.array([Code()], dtype=object)),
        "holds Python objects",
        1,
    ),
    ErrorCase(
        "features: Python objects in npz",
        "gave a .npz file of Python objects",
        array(np.array([Code()], dtype=object), ".npz"),
        "holds Python objects",
        1,
    ),
    ErrorCase("features: a pickle", "gave a .pt file that runs code", pickled, "Python objects other than tensors", 1),
    ErrorCase("features: 0 bytes", "gave a file of 0 bytes", bytes_of(b""), r"empty \(0 bytes\)", 1),
    ErrorCase(
        "features: damaged archive", "gave a damaged .npz file", bytes_of(b"PK\x03\x04", ".npz"), "cannot read", 1
    ),
    ErrorCase("features: unknown ending", "gave a .csv file", bytes_of(b"1,2", ".csv"), "unknown feature format", 1),
    ErrorCase(
        "features: two arrays",
        "gave a .npz file with two arrays of other names",
        two_arrays,
        "expected one array, or one named 'feats' or 'features'; found: rgb, flow",
        1,
    ),
    ErrorCase("features: no h5py", "gave .h5 files without h5py", without_h5py, r"pip install 'eventide\[hdf5\]'", 1),
    ErrorCase(
        "features: unlike lengths",
        "joined two folders whose lengths differ by 5 vectors",
        unlike_lengths,
        "rgb/v1.npy has 50, .*flow/v1.npy has 45",
        1,
    ),
    ErrorCase("features: a path as id", "used a path as the id of a recording", path_as_id, "no plain file name", 1),
]
