"""Length extrapolation: trained on recordings of 512 vectors, evaluated at that length and at eight times it.

python -m benchmarks.extrapolation [--seeds 0 1 2] [--attention windows full] [--json FILE]

In the generated recordings an event is an onset and an offset with nothing but noise between them, and its class is the
time from one to the other, so that positions tell both boundaries and class. Lone onsets and offsets are in the way.
Events, gaps, noise and distractors are alike at both lengths. Backbone v2 with use_rope is set against the same with
use_abs_pe in its place, whose table is interpolated beyond the trained length, and against neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import machine
from eventide.config import Config
from eventide.config_loading import load_config
from eventide.data.dataset import EventDataset
from eventide.engine.evaluate import detect_dataset, score
from eventide.engine.fit import FitOptions
from eventide.engine.inference import Inference
from eventide.engine.run_folder import RunFolder
from eventide.engine.setup import train

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
SHORT, LONG = 512, 4096
CHANNELS, NOISE = 16, 0.3
ONSET, OFFSET = 0, 1
DURATIONS = (8, 16, 32)  # seconds of an event of each class, give or take 15%
MEAN_GAP, DISTRACTOR_EVERY = 10.0, 60.0  # seconds
POSITIONS = {
    "use_rope": ["model.backbone.use_rope=true"],
    "use_abs_pe": ["model.backbone.use_rope=false", "model.backbone.use_abs_pe=true"],
    "neither": ["model.backbone.use_rope=false"],
}
ATTENTION = {"windows": "19", "full": "-1", "mixed": "[19, 19, 19, 19, -1]"}


@dataclass(frozen=True)
class Made:
    """One generated recording; one vector stands for one second."""

    features: np.ndarray  # (T, CHANNELS) float32
    segments: np.ndarray  # (G, 2) float64, seconds
    label_ids: np.ndarray  # (G,) int64


def make(length: int, seed: Sequence[int]) -> Made:
    """A recording of `length` vectors, a pure function of the seed."""
    rng = np.random.default_rng(seed)
    features = NOISE * rng.standard_normal((length, CHANNELS))
    segments, label_ids = [], []
    cursor = rng.exponential(MEAN_GAP)
    while True:
        label_id = int(rng.integers(len(DURATIONS)))
        end = cursor + DURATIONS[label_id] * rng.uniform(0.85, 1.15)
        if end > length - 2:
            break
        add_pulse(features, cursor, ONSET)
        add_pulse(features, end, OFFSET)
        segments.append((round(cursor, 3), round(end, 3)))
        label_ids.append(label_id)
        cursor = end + 4 + rng.exponential(MEAN_GAP)
    for _ in range(rng.poisson(length / DISTRACTOR_EVERY)):
        add_pulse(features, rng.uniform(0, length), int(rng.integers(2)))
    return Made(features.astype(np.float32), np.array(segments).reshape(-1, 2), np.array(label_ids, dtype=np.int64))


def add_pulse(features: np.ndarray, time: float, kind: int) -> None:
    """Two seconds around `time` in the direction of an onset or an offset."""
    reach = np.clip(1.5 - np.abs(np.arange(len(features)) + 0.5 - time), 0, 1)
    features += reach[:, None] * np.where(np.arange(CHANNELS) % 2 == kind, 1.0, 0.0)


def write_recordings(folder: Path, counts: dict[str, tuple[int, int]]) -> None:
    """Features and annotations of `counts`: subset -> (recordings, vectors of each)."""
    (folder / "features").mkdir(parents=True)
    database: dict[str, Any] = {}
    for number, (subset, (count, length)) in enumerate(counts.items()):
        for index in range(count):
            recording = make(length, [number, index])
            name = f"{subset}_{index:03d}"
            np.save(folder / "features" / f"{name}.npy", recording.features)
            events = zip(recording.segments.tolist(), recording.label_ids.tolist(), strict=True)
            annotations = [
                {"segment": segment, "label": f"{DURATIONS[label]} s", "label_id": label} for segment, label in events
            ]
            database[name] = {"subset": subset, "duration": float(length), "fps": 1.0, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")


def configuration(folder: Path, positions: str, attention: str, seed: int, epochs: int, width: int) -> Config:
    """The demo's model with backbone v2, without any part of inference that limits how many events are found."""
    return load_config(
        CONFIG,
        [
            f"seed={seed}",
            f"dataset.json_file={folder / 'annotations.json'}",
            f"dataset.feat_folder={folder / 'features'}",
            f"dataset.max_seq_len={SHORT}",
            f"dataset.input_dim={CHANNELS}",
            f"dataset.num_classes={len(DURATIONS)}",
            "dataset.feat_stride=1",
            "dataset.num_frames=1",
            "tiou_thresholds=[0.5, 0.6, 0.7, 0.8, 0.9]",
            "val_split=[short]",
            "model.backbone_type=convTransformerv2",
            f"model.backbone.n_embd={width}",
            f"model.backbone.mha_win_size={ATTENTION[attention]}",
            *POSITIONS[positions],
            f"opt.epochs={epochs}",
            f"opt.warmup_epochs={max(epochs // 8, 1)}",
            "test_cfg.pre_nms_topk=20000",
            "test_cfg.max_seg_num=5000",
            "test_cfg.batch_size=1",
        ],
    )


def train_and_evaluate(config: Config, folder: Path) -> dict[str, float]:
    """Average mAP (%) at both lengths of the averaged weights after the last epoch."""
    trained = train(config, RunFolder(folder), FitOptions(eval_freq=0))
    trained.state.average.module.eval()
    found = {}
    for subset in ("short", "long"):
        data = EventDataset(config, [subset], training=False)
        inference = Inference(trained.state.average.module, trained.decoder, config, data.labels)
        detections = detect_dataset(inference, data, 0, lambda *_: None)
        found[subset] = 100 * score(data, detections, config).average_mAP
    return found


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: means over the seeds, with every seed's fall."""
    lines = [
        f"| attention | positions | mAP at T = {SHORT} | mAP at T = {LONG} | fall | fall of each seed |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    for attention, positions in dict.fromkeys((row["attention"], row["positions"]) for row in results):
        rows = [row for row in results if (row["attention"], row["positions"]) == (attention, positions)]
        short, long = (statistics.fmean(row[subset] for row in rows) for subset in ("short", "long"))
        falls = ", ".join(f"{row['short'] - row['long']:.1f}" for row in rows)
        lines.append(f"| {attention} | {positions} | {short:.1f} | {long:.1f} | {short - long:.1f} | {falls} |")
    return lines


def main() -> None:
    """Train and evaluate everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=["windows", "full"])
    parser.add_argument("--positions", nargs="+", choices=POSITIONS, default=list(POSITIONS))
    parser.add_argument("--recordings", type=int, default=96, help="for training (%(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=64, help="channels of the network (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder, {"training": (options.recordings, SHORT), "short": (32, SHORT), "long": (4, LONG)})
        for seed in options.seeds:
            for attention in options.attention:
                for positions in options.positions:
                    config = configuration(folder, positions, attention, seed, options.epochs, options.width)
                    torch.manual_seed(seed)
                    found = train_and_evaluate(config, folder / f"{attention}_{positions}_{seed}")
                    results.append({"attention": attention, "positions": positions, "seed": seed, **found})
                    print(json.dumps(results[-1]), flush=True)
    print("\n".join(["", *table(results)]))
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in machine().items()))
    if options.json:
        content = {"results": results, "options": vars(options), "machine": machine()}
        Path(options.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
