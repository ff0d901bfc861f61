"""`eventide shard`: the features of a configuration as a few large files, which are read from anywhere by URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eventide.cli.progress import stages
from eventide.types import EventideError, UsageError

if TYPE_CHECKING:
    from eventide.config import Config

SMALLEST = 1 << 10  # bytes of a shard
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def shard(
    config: Annotated[Path, Parameter(help="Configuration whose features are stored.")],
    output: Annotated[str, Parameter(help="Folder or URL for the shards, empty or with an interrupted run.")],
    /,
    *,
    size: Annotated[str, Parameter(help="Bytes of a shard, at most: 512M, 2G.")] = "512M",
    split: Annotated[
        list[str] | None, Parameter(help="Subsets to store. Default: train_split and val_split of the configuration.")
    ] = None,
    dtype: Annotated[
        Literal["keep", "float16", "float32"], Parameter(help="Number type to store; float16 rounds, and halves.")
    ] = "keep",
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: a.b=value.")] = None,
) -> None:
    """Store the features of a configuration as shards: a few large tar files and an index, for data on object stores.

    Several feature folders are joined along the channels. Put the folder or URL into dataset.feat_folder afterwards:
    every command reads it as it reads the folders, with the same results. An interrupted run goes on where it was when
    the same command is given again. OUTPUT may be a URL of fsspec, such as s3://bucket/shards.
    """
    limit = parse_size(size)
    from eventide.config_loading import load_config
    from eventide.data.dataset import feature_store
    from eventide.data.places import open_place
    from eventide.data.shard_writing import write_shards

    loaded = load_config(config, set_ or ())
    place = open_place(output)
    store = feature_store(loaded.dataset)
    ids = recording_ids(loaded, split)
    missing = [name for name in ids if not store.exists(name)]
    if missing:
        _tell_missing(loaded, missing)
        ids = sorted(set(ids) - set(missing))
    with stages() as on_progress:
        done = write_shards(store, ids, place, limit, dtype, on_progress)
    kept = f", {done.kept} of them kept from before" if done.kept else ""
    print(
        f"{place.name}: {done.recordings} recordings in {done.shards} shard(s){kept}, {done.bytes / 1e6:.1f} MB. "
        f"Put into the configuration:\n\ndataset:\n  feat_folder: {place.name}"
    )


def parse_size(text: str) -> int:
    """Bytes of a text such as 512M, 1.5G or 64MiB (units of 1024). `UsageError`: it is none, or too small."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    found = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if found < SMALLEST:
        raise UsageError(f"--size {text}: give a size of at least 1K, such as 512M or 2G")
    return found


def recording_ids(config: Config, subsets: list[str] | None) -> list[str]:
    """The recordings of some subsets, default those to train and to evaluate on, sorted."""
    from eventide.data.annotations import load_annotations, split

    annotations = load_annotations(config.dataset.json_file)
    chosen = subsets or [*config.train_split, *config.val_split]
    found = split(annotations, chosen)
    known = {name.lower() for name in chosen}
    others = [f"{name} ({count})" for name, count in annotations.subsets().items() if name.lower() not in known]
    if others:
        print(f"left out: subset(s) {', '.join(others)}; name them with --split to store them, too")
    return sorted(recording.id for recording in found)


def _tell_missing(config: Config, missing: list[str]) -> None:
    """Say which recordings have no features, where that is no error."""
    from eventide.ops.problems import name_some

    if config.dataset.missing != "skip":
        raise EventideError(
            f"{len(missing)} recording(s) without features: {name_some(missing)}; "
            "dataset.missing: skip leaves them out (--set dataset.missing=skip)"
        )
    print(f"left out: {len(missing)} recording(s) without features: {name_some(missing)}")
