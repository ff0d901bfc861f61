"""Noise in the boundaries of the training labels: LocPointTransformer against TBTFormer, same size and budget.

    python -m benchmarks.noise --data /path/to/hapt --output results/noise

Every boundary of a training segment is moved by a normal error, drawn again until the segment lasts half a second and
lies in the recording; the validation labels stay clean. Both models see the same moved labels, one draw per seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trainings import ROOT, Training, run_trainings

WIDTH = 128  # channels of both models: half of the configurations', so that the whole table takes an hour
SHORTEST = 0.5  # seconds that a moved segment must last
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MODELS = {"LocPointTransformer": "hapt_segments.yaml", "TBTFormer": "hapt_segments_tbt.yaml"}


def move_boundaries(document: dict[str, Any], deviation: float, seed: int) -> dict[str, Any]:
    """Annotations in which every boundary of a training segment is moved by a normal error of `deviation` seconds."""
    rng = np.random.default_rng(seed)
    moved = {"database": {name: dict(record) for name, record in document["database"].items()}}
    for record in moved["database"].values():
        if record["subset"] == "training":
            record["annotations"] = [
                {**item, "segment": _moved(item["segment"], record["duration"], deviation, rng)}
                for item in record["annotations"]
            ]
    return moved


def _moved(segment: Sequence[float], duration: float, deviation: float, rng: np.random.Generator) -> list[float]:
    if deviation == 0:
        return list(segment)
    while True:
        start, end = (np.asarray(segment) + deviation * rng.standard_normal(2)).tolist()
        if start >= 0 and end <= duration and end - start >= SHORTEST:
            return [start, end]


def score(run: Path) -> np.ndarray:
    """mAP (K,) of a run's model on the clean validation recordings."""
    from eventide.config_loading import load_config
    from eventide.data.annotations import load_annotations, split
    from eventide.engine.predict import Predictor
    from eventide.engine.predict_files import predict_split
    from eventide.evaluation.events import GroundTruth, Predictions
    from eventide.evaluation.segments import evaluate_segments

    annotated = load_annotations(load_config(run / "config.yaml").dataset.json_file)
    found = predict_split(Predictor.load(run, device="cpu"), "validation", None, None, lambda done, total: None)
    truth = GroundTruth.from_recordings(split(annotated, "validation"), annotated.labels)
    return evaluate_segments(truth, Predictions.from_detections(found), THRESHOLDS).mAP


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs; finished ones are kept")
    parser.add_argument("--data", type=Path, required=True, help="folder of HAPT: segments.json, features_2hz")
    parser.add_argument("--deviations", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0], help="seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--at-once", type=int, default=2, help="trainings at a time, one thread each")
    options = parser.parse_args()
    output, data = options.output.resolve(), options.data.resolve()
    output.mkdir(parents=True, exist_ok=True)
    document = json.loads((data / "segments.json").read_text())
    scores: dict[tuple[str, float], list[np.ndarray]] = {}
    kinds: dict[str, tuple[str, float]] = {}
    trainings = []
    for deviation in options.deviations:
        for seed in options.seeds:
            labels = output / f"labels_{deviation:g}_{seed}.json"
            labels.write_text(json.dumps(move_boundaries(document, deviation, seed)))
            for model, name in MODELS.items():
                settings = (
                    f"dataset.json_file={labels}",
                    f"dataset.feat_folder={data / 'features_2hz'}",
                    f"model.backbone.n_embd={WIDTH}",
                    f"seed={seed}",
                )
                training = Training(f"{model}_{deviation:g}_{seed}", ROOT / "configs" / name, settings)
                kinds[training.name] = (model, deviation)
                trainings.append(training)

    def keep(training: Training, run: Path) -> None:
        values = score(run)
        scores.setdefault(kinds[training.name], []).append(values)
        print(f"{training.name}: {100 * values.mean():.2f}", flush=True)

    run_trainings(trainings, output, at_once=options.at_once, on_done=keep)
    print("\n".join(table(scores)))


def table(scores: dict[tuple[str, float], list[np.ndarray]]) -> list[str]:
    """The mean over seeds of the average mAP 0.5:0.95, and of each seed, as Markdown."""
    lines = ["| noise (s) | model | average mAP 0.5:0.95 | per seed |", "| --- | --- | --- | --- |"]
    for (model, deviation), runs in sorted(scores.items(), key=lambda item: (item[0][1], item[0][0])):
        averages = [100 * float(values.mean()) for values in runs]
        each = " / ".join(f"{value:.2f}" for value in averages)
        lines.append(f"| {deviation:g} | {model} | {statistics.mean(averages):.2f} | {each} |")
    return lines


if __name__ == "__main__":
    main()
