"""Feature files: the shape of an array without reading it, and any range of its rows.

One array (T, C) per file: `.npy` (memory-mapped), `.npz`, `.h5`/`.hdf5`, `.pt` (tensors only), `.safetensors`. In files
that hold several arrays the one named `feats` or `features` is meant, else the only one. Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from eventide.types import EventideError

ARRAY_NAMES = ("feats", "features")
_SKIP_BYTES = 1 << 22
# NumPy reads the header of an array with Python's parser. In Python 3.11 it counts its depth once for all threads, and
# fails where two of them parse at a time.
_PARSER = threading.Lock() if sys.version_info < (3, 12) else nullcontext()


class Header(NamedTuple):
    """What a feature file holds: the shape as stored, and the name of its number type."""

    shape: tuple[int, ...]
    dtype: str


class _Array(NamedTuple):
    """An opened array: rows [start, stop) come out as a NumPy array with the stored number type."""

    header: Header
    rows: Callable[[int, int], np.ndarray]


def read_header(path: str | os.PathLike[str], member: str | None = None) -> Header:
    """Shape and number type of a feature file; `member` is the array's name in an HDF5 file of many recordings.

    Raises `EventideError` that names the file when it cannot be read as its ending says.
    """
    with _opened(Path(path), member) as array:
        return array.header


def read_rows(
    path: str | os.PathLike[str], start: int, stop: int, step: int = 1, member: str | None = None
) -> np.ndarray:
    """Rows start, start + step, ... before `stop` of a feature file, as a new float32 array (T, C)."""
    with _opened(Path(path), member) as array:
        rows = array.rows(start, stop)[::step]
        with np.errstate(over="ignore"):  # a float64 too large becomes Inf, which the caller reports
            return np.array(rows, dtype=np.float32, order="C")


def member_names(path: str | os.PathLike[str]) -> frozenset[str]:
    """The names at the top of an HDF5 file of many recordings."""
    with _opening(Path(path)), _h5py().File(path, "r") as file:
        return frozenset(file)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Turn what the readers of damaged or unfit files raise into one message that names the file."""
    try:
        yield
    except (EventideError, MemoryError):
        raise
    except FileNotFoundError:
        raise EventideError(f"{path}: no such feature file") from None
    except pickle.UnpicklingError:
        raise EventideError(
            f"{path}: holds Python objects other than tensors, which are never loaded; save a plain tensor (T, C)"
        ) from None
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EventideError(f"{path}: cannot read the feature file: {reason[:200]}") from None


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[_Array]:
    ending = path.suffix.lower()
    openers = {".npy": _npy, ".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5, ".pt": _pt, ".safetensors": _safetensors}
    if ending not in openers:
        known = ", ".join(openers)
        raise EventideError(f"{path}: unknown feature format {ending!r}; known: {known} (dataset.file_ext)")
    with _opening(path):
        if path.is_file() and path.stat().st_size == 0:
            raise EventideError(f"{path}: the feature file is empty (0 bytes)")
        with openers[ending](path, member) as array:
            yield array


def _choose(names: Iterable[str], path: Path) -> str:
    """The name of the array that holds the features."""
    names = list(names)
    for name in ARRAY_NAMES:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    found = ", ".join(names[:8]) or "none"
    raise EventideError(f"{path}: expected one array, or one named 'feats' or 'features'; found: {found}")


@contextmanager
def _npy(path: Path, member: str | None) -> Iterator[_Array]:
    try:
        with _PARSER:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "pickle" in str(error) or "Python object" in str(error):
            raise EventideError(f"{path}: holds Python objects or is no .npy file; save a plain array (T, C)") from None
        raise
    if not isinstance(array, np.ndarray):
        array.close()
        raise EventideError(f"{path}: is a .npz archive with the ending .npy; rename it")
    yield _Array(Header(array.shape, str(array.dtype)), lambda start, stop: array[start:stop])


@contextmanager
def _npz(path: Path, member: str | None) -> Iterator[_Array]:
    with zipfile.ZipFile(path) as archive:
        name = _choose([entry.removesuffix(".npy") for entry in archive.namelist()], path)
        with archive.open(name + ".npy") as file:
            yield _array_in_stream(file, path)


def _array_in_stream(file: IO[bytes], path: Path) -> _Array:
    """An array in .npy format that can only be read forward: the rows before the wanted ones are skipped."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _PARSER:
        shape, fortran_order, dtype = read(file)
    if dtype.hasobject:
        raise EventideError(f"{path}: holds Python objects, which are never loaded; save a plain array (T, C)")

    def rows(start: int, stop: int) -> np.ndarray:
        row_shape = shape[1:]
        row_bytes = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize
        if fortran_order:
            whole = np.frombuffer(_exactly(file, row_bytes * shape[0]), dtype)
            return whole.reshape(shape, order="F")[start:stop]
        left = start * row_bytes
        while left:
            left -= len(_exactly(file, min(left, _SKIP_BYTES)))
        return np.frombuffer(_exactly(file, (stop - start) * row_bytes), dtype).reshape(stop - start, *row_shape)

    return _Array(Header(tuple(shape), str(dtype)), rows)


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError("the file ends too early")
    return data


@contextmanager
def _hdf5(path: Path, member: str | None) -> Iterator[_Array]:
    h5py = _h5py()
    with h5py.File(path, "r") as file:
        if member is not None and member not in file:
            raise EventideError(f"{path}: holds no data set {member!r}")
        found: Any = file if member is None else file[member]
        if isinstance(found, h5py.Group):
            found = found[_choose((key for key in found if isinstance(found[key], h5py.Dataset)), path)]
        yield _Array(Header(tuple(found.shape or ()), str(found.dtype)), lambda start, stop: found[start:stop])


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise EventideError("reading .h5 feature files needs h5py: pip install 'eventide[hdf5]'") from None
    return h5py


@contextmanager
def _pt(path: Path, member: str | None) -> Iterator[_Array]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        content = torch.load(path, map_location="cpu", weights_only=True)  # files of very old versions
    if isinstance(content, dict):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        content = tensors[_choose(tensors, path)]
    if not isinstance(content, torch.Tensor):
        raise EventideError(f"{path}: expected a tensor (T, C), found {type(content).__name__}")
    tensor = content.detach()
    header = Header(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    yield _Array(header, lambda start, stop: tensor[start:stop].float().numpy())


@contextmanager
def _safetensors(path: Path, member: str | None) -> Iterator[_Array]:
    from safetensors import safe_open

    names = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16"}
    with safe_open(str(path), framework="pt") as file:
        part = file.get_slice(_choose(file.keys(), path))
        dtype = names.get(part.get_dtype(), part.get_dtype())
        yield _Array(Header(tuple(part.get_shape()), dtype), lambda start, stop: part[start:stop].float().numpy())
