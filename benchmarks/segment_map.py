"""Segment mAP beside the published evaluator: `python -m benchmarks.segment_map [--published PATH] [--runs N]`.

40,000 predictions against 3,000 ground-truth segments of 20 classes in 200 recordings, 5 tIoU thresholds, Recall@1x and
@5x: the evaluator alone, from arrays in memory. Reading both JSON files is timed beside it (ours only).
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, compare, load_published, published_module, report, seconds, timed
from eventide.evaluation.events import GroundTruth, Predictions

THRESHOLDS = np.linspace(0.3, 0.7, 5)


def database(recordings: int, events: int, classes: int, seed: int = 0) -> dict[str, Any]:
    """Annotations: `events` segments in `recordings` of ten minutes."""
    random = np.random.default_rng(seed)
    content: dict[str, Any] = {
        f"r{i:04d}": {"subset": "validation", "duration": 600.0, "fps": 30.0, "annotations": []}
        for i in range(recordings)
    }
    for recording in random.integers(0, recordings, events):
        start, length, label_id = random.uniform(0, 560), random.gamma(2.0, 3.0) + 0.5, int(random.integers(0, classes))
        content[f"r{recording:04d}"]["annotations"].append(
            {"segment": [start, start + length], "label": f"class {label_id:02d}", "label_id": label_id}
        )
    return {"version": "1.0", "database": content}


def results(annotations: dict[str, Any], number: int, classes: int, seed: int = 1) -> dict[str, Any]:
    """Predictions: two of three near an event with its class and jittered boundaries, the rest anywhere."""
    random = np.random.default_rng(seed)
    events = [(name, event) for name, r in annotations["database"].items() for event in r["annotations"]]
    found: dict[str, Any] = {name: [] for name in annotations["database"]}
    for _ in range(number):
        name, event = events[random.integers(0, len(events))]
        start, end = event["segment"]
        label_id, score = event["label_id"], float(random.beta(2.0, 3.0))
        if random.random() < 1 / 3:
            start, label_id, score = random.uniform(0, 560), int(random.integers(0, classes)), score / 2
            end = start + random.gamma(2.0, 3.0) + 0.5
        else:
            start, end = np.array([start, end]) + random.normal(0, 0.15, 2) * (end - start)
        segment = [float(min(start, end)), float(max(start, end))]
        found[name].append({"segment": segment, "label": f"class {label_id:02d}", "label_id": label_id, "score": score})
    return {"version": "1.0", "results": found}


def published(annotation_file: Path, predictions: Predictions) -> Any:
    """A call of the published evaluator, its ground truth already read; gives mAP, average mAP and recall."""
    evaluator = published_module("libs.utils").ANETdetection(
        str(annotation_file), "validation", tiou_thresholds=THRESHOLDS, num_workers=1
    )
    columns = {
        "video-id": [predictions.recordings[i] for i in predictions.recording_index],
        "t-start": predictions.segments[:, 0],
        "t-end": predictions.segments[:, 1],
        "label": predictions.label_ids,
        "score": predictions.scores,
    }

    def evaluate() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate(columns, verbose=False)

    return evaluate


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, runs=3)
    parser.add_argument("--predictions", type=int, default=40_000)
    parser.add_argument("--events", type=int, default=3_000)
    options = parser.parse_args()
    annotations = database(200, options.events, 20)
    with tempfile.TemporaryDirectory() as folder:
        annotation_file, results_file = Path(folder) / "annotations.json", Path(folder) / "results.json"
        annotation_file.write_text(json.dumps(annotations), encoding="utf-8")
        results_file.write_text(json.dumps(results(annotations, options.predictions, 20)), encoding="utf-8")
        run(options, annotation_file, results_file)


def run(options: Any, annotation_file: Path, results_file: Path) -> None:
    """Time reading and evaluating, compare the numbers, print the table."""
    from eventide.data.annotations import load_annotations, split
    from eventide.evaluation.results import read_results
    from eventide.evaluation.segments import evaluate_segments

    def read_ground_truth() -> GroundTruth:
        read = load_annotations(annotation_file)
        return GroundTruth.from_recordings(split(read, "validation"), read.labels)

    ground_truth, predictions = read_ground_truth(), read_results(results_file)
    theirs = None
    if options.published:
        load_published(options.published)
        theirs = published(annotation_file, predictions)
    label = f"{len(predictions):,} predictions, {len(ground_truth):,} events, {len(THRESHOLDS)} thresholds"
    found = compare(
        label, lambda: evaluate_segments(ground_truth, predictions, THRESHOLDS), theirs, options.runs, 0.01, warm_up=0
    )
    extra = {
        "reading the annotations": seconds(statistics.median(timed(read_ground_truth) for _ in range(5))),
        "reading the results": seconds(statistics.median(timed(lambda: read_results(results_file)) for _ in range(5))),
    }
    if theirs is not None:
        ours = evaluate_segments(ground_truth, predictions, THRESHOLDS)
        other_map, _, other_recall = theirs()
        differences = (np.abs(ours.mAP - other_map).max(), np.abs(ours.recall - other_recall).max())
        extra["largest difference of mAP and recall"] = "{:.1e} {:.1e}".format(*differences)
    extra["average mAP"] = f"{evaluate_segments(ground_truth, predictions, THRESHOLDS).average_mAP:.6f}"
    report([found], options.json, **extra)


if __name__ == "__main__":
    main()
