"""Reading windows of many recordings: rate and memory for a folder of files, for shards, and for others' formats.

python -m benchmarks.reader [--recordings N] [--vectors N] [--sources NAME ...] [--workers N ...] [--data DIR]
                            [--json FILE]

Every recording is read once in random order, one random window of it. Each row runs in a process of its own. Memory is
the highest resident memory so far of that process and its loader processes, added up, when 1%, 10%, 50% and 100% of
the recordings are read: where it stays, it does not grow with their number. Data are made on the fly (and removed,
unless --data says where they stay). Rows of webdataset and litdata appear where these are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine
from eventide.data.features import FeatureStore
from eventide.data.places import open_place
from eventide.data.shard_writing import write_shards

CHANNELS = 64
WINDOW = 16  # vectors that are read of each recording
SHARD_BYTES = 32 << 20  # at most; small sets make 8 shards, so that loader processes have one each
FPS = 10.0
POINTS = (0.01, 0.1, 0.5, 1.0)  # shares of the recordings after which memory is looked at


@dataclass(frozen=True)
class Source:
    """A way to store and read features."""

    name: str
    what: str
    needs: str | None = None  # package


SOURCES = (
    Source("folder", "folder of .npy files"),
    Source("shards", "shards, local"),
    Source("http", "shards, by HTTP from this machine"),
    Source("training-folder", "training batches, folder"),
    Source("training-shards", "training batches, shards"),
    Source("webdataset", "webdataset, streamed (the same shards)", "webdataset"),
    Source("litdata-windows", "litdata, read_window", "litdata"),
    Source("litdata-stream", "litdata, streamed", "litdata"),
)


@dataclass(frozen=True)
class Row:
    """What one process measured. Rates are recordings per second, memory MB, time of the processor microseconds per
    recording of the main process: what a busy machine changes least, where there are no loader processes.
    """

    source: str
    workers: int
    rate: float
    peaks: tuple[float, ...]  # at POINTS
    recordings: int
    processor: float


def main() -> None:
    """Make the data, run every row, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000, help="recordings (%(default)s)")
    parser.add_argument("--vectors", type=int, default=40, help="vectors of a recording, on average (%(default)s)")
    parser.add_argument("--sources", nargs="+", choices=[source.name for source in SOURCES], help="rows (default: all)")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2], help="loader processes (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder for the data, kept and used again")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    with folder_for(options.data) as folder:
        make_data(folder, options.recordings, options.vectors)
        rows = []
        for source in chosen(options.sources):
            for workers in options.workers:
                rows.append(run_row(folder, source, workers))
                print(f"{source.what}, {workers} loader processes: done", file=sys.stderr)
    print("\n".join(table(rows)))
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.json:
        content = {"rows": [row.__dict__ for row in rows], "options": vars(options), "machine": machine()}
        options.json.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def chosen(names: list[str] | None) -> list[Source]:
    """The sources asked for; of all those, the ones whose package is installed."""
    if names:
        return [source for source in SOURCES if source.name in names]
    return [source for source in SOURCES if source.needs is None or importlib.util.find_spec(source.needs)]


@contextmanager
def folder_for(kept: Path | None) -> Iterator[Path]:
    """A folder for the data: a temporary one, or the one that is kept."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="eventide-reader-") as name:
        yield Path(name)


def make_data(folder: Path, recordings: int, vectors: int) -> None:
    """Random features as files, annotations of them, and shards made from them; what is there already is left."""
    wanted = {"recordings": recordings, "vectors": vectors, "channels": CHANNELS}
    if (folder / "made.json").exists():
        if json.loads((folder / "made.json").read_text()) != wanted:
            sys.exit(f"error: {folder} holds other data; give another folder")
        return
    features = folder / "features"
    features.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4 * vectors + 1000, CHANNELS)).astype(np.float16)
    database = {}
    for index in range(recordings):
        length = int(rng.integers(max(WINDOW, vectors // 2), max(WINDOW, vectors * 3 // 2) + 1))
        start = int(rng.integers(len(noise) - length + 1))
        np.save(features / f"rec{index:07d}.npy", noise[start : start + length])
        annotations = [{"segment": [0.2, 0.9], "label": "clap", "label_id": 0}]
        database[f"rec{index:07d}"] = {
            "subset": "training",
            "duration": length / FPS,
            "fps": FPS,
            "annotations": annotations,
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    store = FeatureStore(str(features), input_dim=CHANNELS)
    size = min(SHARD_BYTES, recordings * vectors * CHANNELS * 2 // 8)
    write_shards(store, store.ids(), open_place(str(folder / "shards")), size, "keep", lambda *step: None)
    (folder / "made.json").write_text(json.dumps(wanted), encoding="utf-8")


def run_row(folder: Path, source: Source, workers: int) -> Row:
    """Measure one source in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reader_worker", str(folder), source.name, str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {source.what}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Row(source.name, workers, found["rate"], tuple(found["peaks"]), found["recordings"], found["processor"])


def table(rows: list[Row]) -> list[str]:
    """Lines of a Markdown table; rates also as ratios to the folder of files with as many loader processes."""
    names = {source.name: source.what for source in SOURCES}
    base = {row.workers: row.rate for row in rows if row.source == "folder"}
    points = [f"peak MB at {point:.0%}" for point in POINTS]
    lines = [
        "| read from | loader processes | recordings/s | to the folder's | processor, us each | "
        + " | ".join(points)
        + " |",
        "| --- |" + " ---: |" * (4 + len(points)),
    ]
    for row in rows:
        ratio = f"{row.rate / base[row.workers]:.2f}" if row.workers in base else "-"
        peaks = " | ".join(f"{peak:.0f}" for peak in row.peaks)
        processor = f"{row.processor:.0f}" if row.workers == 0 else "-"
        lines.append(f"| {names[row.source]} | {row.workers} | {row.rate:.0f} | {ratio} | {processor} | {peaks} |")
    return lines


if __name__ == "__main__":
    main()
