"""Point events on real data: SnapFormer against LocPointTransformer fed with short segments around the same points.

    python -m benchmarks.points --data /path/to/hapt --output results/points

Both have the same backbone, neck, budget and learning rate (`configs/hapt_onsets.yaml`); the segments are 0.2 s long,
and the centre of a detected segment is its time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.trainings import ROOT, Training, run_trainings

CONFIG = ROOT / "configs" / "hapt_onsets.yaml"
LENGTH = 0.2  # seconds of the segments around the points
TOLERANCES = (0.25, 0.5, 1.0)  # seconds
# What a segment model needs in place of SnapFormer's own settings. Soft suppression by overlap would leave neighbours
# of a peak untouched, since the segments are so short; both have no other than that.
AS_SEGMENTS = (
    "model.meta_arch=LocPointTransformer",
    "model.heatmap.width=null",
    "test_cfg.duration_thresh=0",
)


def as_segments(document: dict[str, Any], length: float) -> dict[str, Any]:
    """Annotations in which every point event is a segment of `length` seconds around it, cut to its recording."""
    changed = {"database": {name: dict(record) for name, record in document["database"].items()}}
    for record in changed["database"].values():
        record["annotations"] = [_as_segment(item, length, record["duration"]) for item in record["annotations"]]
    return changed


def _as_segment(item: dict[str, Any], length: float, duration: float) -> dict[str, Any]:
    kept = {key: value for key, value in item.items() if key != "time"}
    start, end = item["time"] - length / 2, item["time"] + length / 2
    return {**kept, "segment": [max(start, 0.0), min(end, duration)]}


def score(run: Path, points: Path) -> np.ndarray:
    """Point mAP (K,) of a run's model on the validation recordings of `points`, the file with the point events."""
    from eventide.data.annotations import load_annotations, split
    from eventide.engine.predict import Predictor
    from eventide.engine.predict_files import predict_split
    from eventide.evaluation.events import GroundTruth, Predictions
    from eventide.evaluation.points import evaluate_points

    annotated = load_annotations(points)
    found = predict_split(Predictor.load(run, device="cpu"), "validation", None, None, lambda done, total: None)
    centres = {
        name: replace(d, segments=np.repeat(d.segments.mean(axis=1, keepdims=True), 2, axis=1), kind="points")
        for name, d in found.items()
    }
    truth = GroundTruth.from_recordings(split(annotated, "validation"), annotated.labels, "points")
    return evaluate_points(truth, Predictions.from_detections(centres), TOLERANCES).mAP


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs; finished ones are kept")
    parser.add_argument("--data", type=Path, required=True, help="folder of HAPT: onsets.json, features_10hz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--at-once", type=int, default=2, help="trainings at a time, one thread each")
    options = parser.parse_args()
    output, data = options.output.resolve(), options.data.resolve()
    output.mkdir(parents=True, exist_ok=True)
    points, segments = data / "onsets.json", output / "segments.json"
    segments.write_text(json.dumps(as_segments(json.loads(points.read_text()), LENGTH)))
    common = (f"dataset.feat_folder={data / 'features_10hz'}",)
    trainings = [
        Training(f"{model}_{seed}", CONFIG, (*common, *own, f"dataset.json_file={file}", f"seed={seed}"))
        for seed in options.seeds
        for model, file, own in (("points", points, ()), ("segments", segments, AS_SEGMENTS))
    ]
    scores: dict[str, list[np.ndarray]] = {}

    def keep(training: Training, run: Path) -> None:
        values = score(run, points)
        scores.setdefault(training.name.partition("_")[0], []).append(values)
        print(f"{training.name}: {' / '.join(f'{100 * value:.1f}' for value in values)}", flush=True)

    run_trainings(trainings, output, at_once=options.at_once, on_done=keep)
    print("\n".join(table(scores)))


def table(scores: dict[str, list[np.ndarray]]) -> list[str]:
    """Mean over seeds of the point mAP at each tolerance, and of each seed, as Markdown."""
    names = {"points": "SnapFormer", "segments": f"LocPointTransformer, {LENGTH:g} s segments"}
    lines = [
        f"| model | {' | '.join(f'{tolerance:g} s' for tolerance in TOLERANCES)} | per seed |",
        "| --- " * (len(TOLERANCES) + 2) + "|",
    ]
    for name, runs in scores.items():
        means = [f"{100 * statistics.mean(float(run[k]) for run in runs):.1f}" for k in range(len(TOLERANCES))]
        each = "; ".join(" / ".join(f"{100 * value:.1f}" for value in run) for run in runs)
        lines.append(f"| {names[name]} | {' | '.join(means)} | {each} |")
    return lines


if __name__ == "__main__":
    main()
