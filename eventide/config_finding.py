"""One thing that is wrong with a configuration whose types are correct."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something wrong with a configuration of correct types. `keys`: those involved, the one to change first."""

    keys: tuple[str, ...]
    message: str
    warning: bool = False
