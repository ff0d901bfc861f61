"""Write feature files in every format that `formats` reads, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from eventide.data.formats import ARRAY_NAMES
from eventide.ops.files import replacing, write_file
from eventide.types import EventideError

NAME = ARRAY_NAMES[0]  # of the array, in formats that hold several


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write one feature array (T, C) in the format of the path's ending.

    Raises:
        UsageError: the file cannot be written.
        EventideError: no such format, or h5py is missing.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".npy":
        write_file(path, lambda file: np.save(file, array, allow_pickle=False))
    elif ending == ".npz":
        write_file(path, lambda file: np.savez(file, allow_pickle=False, **{NAME: array}))
    elif ending in (".h5", ".hdf5"):
        with writing_members(path) as put:
            put(NAME, array)
    elif ending == ".pt":
        import torch

        write_file(path, lambda file: torch.save(torch.from_numpy(array), file))
    elif ending == ".safetensors":
        from safetensors.numpy import save

        write_file(path, lambda file: file.write(save({NAME: np.ascontiguousarray(array)})))
    else:
        raise EventideError(f"{path}: unknown feature format {ending!r} (dataset.file_ext)")


@contextmanager
def writing_members(path: str | Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Write one HDF5 file of many arrays: call what it gives with the name and the array (T, C) of each."""
    try:
        import h5py
    except ImportError:
        raise EventideError("writing HDF5 feature files needs h5py: pip install 'eventide[hdf5]'") from None
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:

        def put(name: str, array: np.ndarray) -> None:
            file.create_dataset(name, data=array)

        yield put
