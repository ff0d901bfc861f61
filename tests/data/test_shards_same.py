"""Samples, batches and checks of shards are those of the folders they were made from, bit for bit, from anywhere."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.config import Config, LoaderConfig
from eventide.data.batching import BatchPlan
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.data.feature_survey import survey_features
from eventide.data.loader import evaluation_batches, training_steps
from eventide.types import Batch
from tests.data.making import assert_same, make_data, with_points, write_features
from tests.data.making_shards import shard_folder


class RangeHandler(SimpleHTTPRequestHandler):
    """Files of a folder by HTTP, also ranges of bytes, which Python's own server does not know."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = self.headers.get("Range")
        if asked is None or not path.is_file():
            super().do_GET()
            return
        first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        data = path.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{path.stat().st_size}")
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address under which the files of `tmp_path` are served."""
    handler = functools.partial(RangeHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def sharded(config: Config, target: str) -> Config:
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"feat_folder": target})})


def make(folder: Path, kind: str) -> Config:
    """A data set and its configuration, and shards of its features in `folder/shards`."""
    changes: dict[str, Any] = {
        "downsampled": {"downsample_rate": 3},
        "resized": {"force_upsampling": True, "max_seq_len": 48},
        "cropped": {"crop_ratio": [0.5, 1.0]},
    }.get(kind, {})
    config = make_data(folder, **changes)
    features = folder / "features"
    names = sorted(path.stem for path in features.iterdir())
    if kind == "float16":
        for path in features.iterdir():
            np.save(path, np.load(path).astype(np.float16))
    if kind == "two folders":
        write_features(folder / "flow", {name: len(np.load(features / f"{name}.npy")) - 1 for name in names}, 3, 5)
        both = {"feat_folder": [str(features), str(folder / "flow")], "input_dim": [4, 3]}
        config = config.model_copy(update={"dataset": config.dataset.model_copy(update=both)})
    if kind == "points":
        config = with_points(config)
    shard_folder(config.dataset.feat_folder, folder / "shards", names, size=9000)
    return config


def first_batches(config: Config, workers: int, first: int = 0, count: int = 8) -> list[Batch]:
    dataset = EventDataset(config, ["training"], training=True)
    plan = BatchPlan.of(dataset, LoaderConfig(batch_size=2, batching="bucketed"))
    steps = training_steps(dataset, plan, num_workers=workers, first_step=first)
    return [batch for step in islice(steps, count) for batch in step]


KINDS = ["plain", "float16", "two folders", "downsampled", "resized", "cropped", "points"]


@pytest.mark.parametrize("kind", KINDS)
def test_training_batches(tmp_path: Path, kind: str) -> None:
    config = make(tmp_path, kind)
    assert_same(first_batches(config, 0), first_batches(sharded(config, str(tmp_path / "shards")), 0))


@pytest.mark.parametrize("where", ["folder", "http"])
def test_loader_processes_and_the_middle_of_an_epoch(tmp_path: Path, server: str, where: str) -> None:
    """The index is read, and so connections are made, before the processes are forked."""
    config = make(tmp_path, "plain")
    target = str(tmp_path / "shards") if where == "folder" else f"{server}/shards"
    shards = sharded(config, target)
    expected = first_batches(config, 0)
    assert_same(expected, first_batches(shards, 2))
    assert_same(expected[3:], first_batches(shards, 2, first=3, count=5))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_batches(tmp_path: Path, server: str, workers: int) -> None:
    config = make(tmp_path, "two folders")
    found = [
        list(evaluation_batches(EventDataset(used, ["validation"], training=False), 2, workers))
        for used in (config, sharded(config, str(tmp_path / "shards")), sharded(config, f"{server}/shards"))
    ]
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_the_same(tmp_path: Path, kind: str) -> None:
    config = make(tmp_path, kind)
    reports = [check_dataset(used).to_dict() for used in (config, sharded(config, str(tmp_path / "shards")))]
    assert reports[0] == reports[1]
    assert reports[0]["problems"] == []


def test_check_finds_what_is_wrong_with_shards(tmp_path: Path, server: str) -> None:
    config = make(tmp_path, "plain")
    path = tmp_path / "shards" / "features-000000.tar"
    path.write_bytes(path.read_bytes()[:-600])
    (report,) = check_dataset(sharded(config, f"{server}/shards"), scan_values=False).problems
    assert report.startswith(f"{server}/shards/features-000000.tar: the shard is cut off, or still being copied")
    (report,) = check_dataset(sharded(config, str(tmp_path / "shards"))).problems
    assert "features-000000.tar: the shard is cut off" in report


def test_a_survey_finds_the_same(tmp_path: Path) -> None:
    config = make(tmp_path, "plain")
    recordings = EventDataset(config, ["training"], training=True).recordings
    of_files = survey_features(tmp_path / "features", recordings)
    of_shards = survey_features(tmp_path / "shards", recordings)
    assert replace(of_files, folder="") == replace(of_shards, folder="")
