"""One row of `benchmarks.reader`, in a process of its own: python -m benchmarks.reader_worker FOLDER SOURCE WORKERS."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.reader import CHANNELS, POINTS, WINDOW
from eventide.data.features import FeatureStore

BATCH = 32
BUFFER = 1000  # samples that webdataset shuffles among
SERVER = """
import sys
from aiohttp import web
app = web.Application()
app.router.add_static("/", sys.argv[1])
web.run_app(app, host="127.0.0.1", port=0, print=lambda text: print(text, flush=True), handle_signals=False)
"""


class Windows(Dataset[torch.Tensor]):
    """A random window of each recording; `read(index, start)` gives (WINDOW, C) float32."""

    def __init__(self, lengths: list[int], read: Callable[[int, int], np.ndarray]) -> None:
        self.lengths, self.read = np.array(lengths), read

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> torch.Tensor:
        start = int(np.random.default_rng(index).integers(self.lengths[index] - WINDOW + 1))
        return torch.from_numpy(self.read(index, start))


def windows(features: FeatureStore, workers: int) -> Iterator[int]:
    """Sizes of the batches of random windows of a feature store."""
    ids = features.ids()
    lengths = [features.length(name) for name in ids]
    data = Windows(lengths, lambda index, start: features.read(ids[index], start, start + WINDOW))
    yield from counted(DataLoader(data, BATCH, sampler=shuffled(len(ids)), num_workers=workers))


def shuffled(count: int) -> list[int]:
    """A random order."""
    return np.random.default_rng(0).permutation(count).tolist()


def counted(batches: Any) -> Iterator[int]:
    """Sizes of batches (B, WINDOW, C), which are looked at."""
    for batch in batches:
        if batch.shape[1:] != (WINDOW, CHANNELS) or batch.dtype != torch.float32:
            raise ValueError(f"a batch of {tuple(batch.shape)} {batch.dtype}")
        yield len(batch)


def training(folder: Path, features: str, workers: int) -> Iterator[int]:
    """Sizes of training batches as every training reads them, for one epoch."""
    from eventide.config import Config
    from eventide.data.batching import BatchPlan
    from eventide.data.dataset import EventDataset
    from eventide.data.loader import training_steps

    settings = {
        "json_file": str(folder / "annotations.json"),
        "feat_folder": str(folder / features),
        "num_classes": 1,
        "input_dim": CHANNELS,
        "feat_stride": 1.0,
        "num_frames": 1.0,
        "max_seq_len": WINDOW,
    }
    config = Config.model_validate({"dataset": settings, "loader": {"batch_size": BATCH}}).resolve()
    dataset = EventDataset(config, ["training"], training=True)
    plan = BatchPlan.of(dataset, config.loader)
    left = len(dataset)
    for batches in training_steps(dataset, plan, num_workers=workers):
        size = sum(len(batch.ids) for batch in batches)
        yield size
        left -= size
        if left <= 0:
            return


def window_of(sample: Any) -> torch.Tensor:
    """A random window of a whole recording."""
    start = int(np.random.randint(len(sample) - WINDOW + 1))  # noqa: NPY002  # a stream knows no index to seed from
    return torch.from_numpy(np.asarray(sample[start : start + WINDOW], dtype=np.float32))


def by_webdataset(folder: Path, workers: int) -> Iterator[int]:
    """Streamed in the order of the shards, shuffled within a buffer."""
    webdataset: Any = importlib.import_module("webdataset")
    urls = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(BUFFER).decode().to_tuple("npy")
    data = data.map(lambda sample: window_of(sample[0]))
    yield from counted(DataLoader(data, BATCH, num_workers=workers))


def by_litdata(folder: Path, workers: int, *, stream: bool) -> Iterator[int]:
    """Windows read at random, or whole recordings streamed chunk by chunk and cut."""
    litdata: Any = importlib.import_module("litdata")
    target = folder / "litdata"
    if not (target / "index.json").exists():
        optimize(folder, target)
    if stream:
        data = litdata.StreamingDataset(
            str(target),
            item_loader=litdata.TemporalArrayLoader(),
            shuffle=True,
            seed=0,
            transform=lambda s: window_of(s["f"]),
        )
        yield from counted(litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=workers))
        return
    source = litdata.StreamingDataset(str(target), item_loader=litdata.TemporalArrayLoader())
    lengths = source.frame_counts
    source.cache = None  # every loader process opens its own
    found = Windows(lengths, lambda index, start: source.read_window(index, start, WINDOW)["f"].astype(np.float32))
    yield from counted(DataLoader(found, BATCH, sampler=shuffled(len(lengths)), num_workers=workers))


def load(path: str) -> dict[str, np.ndarray]:
    """A recording as litdata stores it."""
    return {"f": np.load(path)}


def optimize(folder: Path, target: Path) -> None:
    """Store the features in litdata's format."""
    litdata: Any = importlib.import_module("litdata")
    paths = sorted(str(path) for path in (folder / "features").glob("*.npy"))
    litdata.optimize(
        load, paths, str(target), chunk_bytes="32MB", num_workers=1, item_loader=litdata.TemporalArrayLoader()
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which the files of a folder are served by HTTP, from another process."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout is None:
            raise RuntimeError("no output")
        words = server.stdout.readline().split()
        yield next(word for word in words if word.startswith("http://")).rstrip("/")
    finally:
        server.terminate()
        server.wait()


def peak_memory(skip: set[int]) -> float:
    """MB: the highest resident memory so far of this process and its children but `skip`, added up."""
    me = Path("/proc/self")
    children = [int(pid) for task in me.glob("task/*/children") for pid in task.read_text().split()]
    total = 0.0
    for place in [me, *(Path(f"/proc/{pid}") for pid in set(children) - skip)]:
        try:
            lines = (place / "status").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return total


def measure(sizes: Iterator[int], count: int, skip: set[int]) -> dict[str, Any]:
    """Read on; rate and time of the processor leave out what happens before the first batch."""
    peaks: list[float] = []
    done, first, begin, used = 0, 0, time.perf_counter(), time.process_time()
    for size in sizes:
        if done == 0:
            first, begin, used = size, time.perf_counter(), time.process_time()
        done += size
        while len(peaks) < len(POINTS) and done >= POINTS[len(peaks)] * count:
            peaks.append(peak_memory(skip))
    if done != count:
        raise ValueError(f"{done} recordings came, not {count}")
    found = {"rate": (done - first) / (time.perf_counter() - begin), "peaks": peaks, "recordings": done}
    return found | {"processor": 1e6 * (time.process_time() - used) / (done - first)}


def main() -> None:
    """Measure, print one line of JSON."""
    folder, source, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    count = json.loads((folder / "made.json").read_text())["recordings"]
    torch.set_num_threads(1)
    if source == "http":
        with served(folder) as address:
            skip = {int(pid) for task in Path("/proc/self").glob("task/*/children") for pid in task.read_text().split()}
            found = measure(windows(FeatureStore(f"{address}/shards", input_dim=CHANNELS), workers), count, skip)
    else:
        ways: dict[str, Callable[[], Iterator[int]]] = {
            "folder": lambda: windows(FeatureStore(str(folder / "features"), input_dim=CHANNELS), workers),
            "shards": lambda: windows(FeatureStore(str(folder / "shards"), input_dim=CHANNELS), workers),
            "training-folder": lambda: training(folder, "features", workers),
            "training-shards": lambda: training(folder, "shards", workers),
            "webdataset": lambda: by_webdataset(folder, workers),
            "litdata-windows": lambda: by_litdata(folder, workers, stream=False),
            "litdata-stream": lambda: by_litdata(folder, workers, stream=True),
        }
        found = measure(ways[source](), count, set())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
