"""Ways to get feature shards wrong: making them, copying them, naming them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from eventide.data import remote
from eventide.data.features import FeatureStore
from tests.data.making import make_data, write_config
from tests.data.making_shards import failing_store, shard_folder, stop_after
from tests.errors.error_case import ErrorCase, run_cli


def shard(*words: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], object]:
    """`eventide shard config.yaml WORDS` after a change to a good data set."""

    def run(folder: Path) -> object:
        make_data(folder)
        write_config(folder / "config.yaml", folder)
        change(folder)
        return run_cli(["shard", "config.yaml", *words], folder)

    return run


def used(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read good shards after a change to them."""

    def run(folder: Path) -> object:
        make_data(folder)
        shard_folder(str(folder / "features"), folder / "shards", ["rec0", "rec1", "rec2", "rec3"])
        change(folder / "shards")
        return FeatureStore(str(folder / "shards"), input_dim=4).read("rec0")

    return run


def named(url: str) -> Callable[[Path], object]:
    """`eventide check` with shards behind a URL."""

    def run(folder: Path) -> object:
        make_data(folder)
        write_config(folder / "config.yaml", folder)
        with mock.patch.object(remote, "DELAYS", (0.0, 0.0)), failing_store():
            return run_cli(["check", "config.yaml", "--set", f"dataset.feat_folder={url}"], folder)

    return run


def of_version_2(shards: Path) -> None:
    content = json.loads((shards / "shards.json").read_text())
    (shards / "shards.json").write_text(json.dumps(content | {"version": 2}))


def unfinished(folder: Path) -> object:
    make_data(folder)
    try:
        shard_folder(str(folder / "features"), folder / "shards", ["rec0", "rec1"], size=1024, progress=stop_after(1))
    except KeyboardInterrupt:
        return FeatureStore(str(folder / "shards"), input_dim=4)
    return None


def no_permission(folder: Path) -> object:
    make_data(folder)
    with failing_store() as store:
        shard_folder(str(folder / "features"), "failing://bucket/shards", ["rec0"])
        features = FeatureStore("failing://bucket/shards", input_dim=4)
        store.errors[:] = [PermissionError("Access Denied")]
        return features.read("rec0")


def without_a_recording(folder: Path) -> object:
    make_data(folder)
    write_config(folder / "config.yaml", folder)
    shard_folder(str(folder / "features"), folder / "shards", ["rec0", "rec1"])
    return run_cli(["check", "config.yaml", "--set", f"dataset.feat_folder={folder}/shards"], folder)


def with_values_of(value: float) -> Callable[[Path], object]:
    return lambda folder: np.save(folder / "features" / "rec1.npy", np.full((118, 4), value, np.float32))


CASES = [
    ErrorCase("shard: size", "gave a size in no unit", shard("out", "--size", "12X"), "--size 12X: give a size of", 2),
    ErrorCase(
        "shard: folder in use",
        "made shards in a folder with other files",
        shard("features"),
        r"features: holds other files, such as none\.npy; give an empty folder",
        2,
    ),
    ErrorCase(
        "shard: missing features",
        "made shards of recordings without features",
        shard("out", change=lambda folder: (folder / "features" / "rec3.npy").unlink()),
        r"1 recording\(s\) without features: 'rec3'; dataset.missing: skip leaves them out",
        1,
    ),
    ErrorCase(
        "shard: NaN",
        "made shards of features with NaN",
        shard("out", change=with_values_of(float("nan"))),
        r"rec1\.npy: 472 values are NaN or Inf.*0 of 1 shards are finished and kept: mend this and run the same",
        1,
    ),
    ErrorCase(
        "shard: beyond float16",
        "stored as float16 what does not fit",
        shard("out", "--dtype", "float16", change=with_values_of(1e6)),
        r"features go up to 1e\+06, beyond float16 \(65504\); choose --dtype float32 or keep",
        1,
    ),
    ErrorCase(
        "shard: no such subset",
        "made shards of no subset",
        shard("out", "--split", "tset"),
        "no recordings in subset",
        1,
    ),
    ErrorCase(
        "shards: unfinished", "used shards that are not finished", unfinished, "run the same eventide shard command", 2
    ),
    ErrorCase(
        "shards: later version",
        "used shards of a later version",
        used(of_version_2),
        "an index of version 2, but this Eventide reads version 1",
        1,
    ),
    ErrorCase(
        "shards: damaged index",
        "cut the index of shards off",
        used(lambda shards: os.truncate(shards / "shards.json", 200)),
        r"shards\.json: the index of shards is not valid JSON",
        1,
    ),
    ErrorCase(
        "shards: cut off",
        "copied a shard in part",
        used(lambda shards: os.truncate(shards / "features-000000.tar", 1000)),
        r"features-000000\.tar: the shard is cut off, or still being copied.*\(1000 of \d+ bytes\)",
        1,
    ),
    ErrorCase(
        "shards: missing",
        "left a shard out when copying",
        used(lambda shards: (shards / "features-000001.tar").unlink()),
        r"features-000001\.tar: the shard is missing; copy it again",
        1,
    ),
    ErrorCase(
        "shards: others",
        "copied shards of another run beside the index",
        used(lambda shards: (shards / "features-000000.tar").write_bytes(bytes(9999))),
        r"is no shard of this index \(9999 bytes, not \d+\); copy shards and shards\.json together",
        1,
    ),
    ErrorCase(
        "shards: without a recording",
        "used shards that were made without some recordings",
        without_a_recording,
        r"recording 'rec2': no feature file DIR/shards\[rec2\] \(the shards were made without it",
        1,
    ),
    ErrorCase(
        "shards: no such URL", "named a URL without shards", named("failing://bucket/none"), "holds no shards.json", 1
    ),
    ErrorCase(
        "shards: unreachable",
        "named a server that is not there",
        named("http://127.0.0.1:9/shards"),
        r"http://127\.0\.0\.1:9/shards/shards\.json: cannot be read \(3 tries; .*check the address, the network",
        1,
    ),
    ErrorCase(
        "shards: missing package",
        "named an object store without its package",
        named("oss://bucket/shards"),
        r"oss://bucket/shards: Install ossfs .*\(with pip",
        1,
    ),
    ErrorCase(
        "shards: unknown kind of URL",
        "mistyped the kind of a URL",
        named("s4://bucket/shards"),
        "no such kind of URL",
        1,
    ),
    ErrorCase(
        "shards: no permission",
        "read a bucket without permission",
        no_permission,
        r"features-000000\.tar: no permission \(Access Denied\); check your credentials",
        1,
    ),
]
