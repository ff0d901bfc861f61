"""Reading what torch.save wrote without ever running code that is in it."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from eventide.types import EventideError

# What torch says where a file asks for more than tensors and plain containers.
CODE = ("GLOBAL", "unrecognized function", "Unsupported class", "Can only build", "Can only create")
STARTS = (b"PK", b"\x80")  # of zip archives, and of pickles as torch wrote them long ago


def load_tensors(path: Path) -> Any:
    """Content of a file that torch.save wrote, tensors on the CPU; only tensors and plain containers are accepted.

    Raises:
        EventideError: it holds other objects, or it is damaged or no such file at all.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise EventideError(f"{path} cannot be read: {error.strerror or error}") from None
    if not start.startswith(STARTS):
        raise EventideError(f"{path} cannot be read as a checkpoint: it is none, or its beginning is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders aloud about damaged files; the message below says it once
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(phrase in str(error) for phrase in CODE):
            raise EventideError(
                f"{path} holds Python objects other than tensors, which could run code; it is not loaded. Save its "
                "state_dict alone, a plain dictionary of tensors"
            ) from None
        raise _damaged(path) from None
    except Exception:  # torch raises whatever it meets in a damaged file
        raise _damaged(path) from None


def _damaged(path: Path) -> EventideError:
    return EventideError(
        f"{path} cannot be read as a checkpoint: it is damaged or cut off; take another one, or copy it again"
    )
