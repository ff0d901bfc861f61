"""The results file: `{"version", "results": {recording id: [{"segment", "label", "label_id", "score"}, ...]}}`.

A point event has `time` instead of `segment`; one file holds one of the two kinds.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from eventide.evaluation.events import Predictions
from eventide.ops.files import replacing
from eventide.ops.json_reading import is_number, is_text, read_json, shown
from eventide.ops.problems import raise_problems
from eventide.types import Detections, EventideError, EventKind

VERSION = "1.0"
LARGEST_ID = 2**31
NAMES: dict[EventKind, str] = {"segments": "a segment", "points": "a point event"}


def write_results(path: str | Path, detections: Mapping[str, Detections]) -> None:
    """Write `{recording id: Detections}` as a results file, one recording per line, each sorted by falling score.

    The file is replaced as a whole: it is never half written.

    Raises:
        EventideError: a detection is not a finite number.
        UsageError: the file cannot be written.
    """
    texts = [(name, json.dumps(records_of(name, found)).encode()) for name, found in detections.items()]
    write_result_texts(path, texts)


def write_result_texts(path: str | Path, texts: Iterable[tuple[str, bytes]]) -> None:
    """The same from (recording id, its records as JSON), which are written one by one as they come."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(f'{{"version": "{VERSION}", "results": {{'.encode())
        for number, (name, text) in enumerate(texts):
            file.write(b",\n" if number else b"\n")
            file.write(json.dumps(name).encode() + b": " + text)
        file.write(b"\n}}\n")


def write_results_csv(path: str | Path, detections: Mapping[str, Detections]) -> None:
    """Write `{recording id: Detections}` as a table: recording, start, end (seconds), label, label_id, score.

    Points have a column `time` instead of start and end. Uncertain boundaries add start_std, end_std and, of each
    quantile, such as 0.1, start_q10 and end_q10, in seconds.
    """
    columns = [Columns.of(found) for found in detections.values()]
    write_records_csv(path, columns, ((name, records_of(name, found)) for name, found in detections.items()))


class Columns(NamedTuple):
    """What the records of a recording hold beside label and score."""

    points: bool
    has_std: bool
    levels: tuple[float, ...]  # of quantiles

    @classmethod
    def of(cls, found: Detections) -> Columns:
        return cls(found.kind == "points", found.segment_std is not None, tuple(found.quantile_levels))


def write_records_csv(
    path: str | Path, columns: Iterable[Columns], recordings: Iterable[tuple[str, list[dict[str, Any]]]]
) -> None:
    """Write a table from (recording id, its records), row by row as they come; `columns` are those of all of them."""
    kinds = set(columns)
    points, has_std = any(kind.points for kind in kinds), any(kind.has_std for kind in kinds)
    levels = sorted({level for kind in kinds for level in kind.levels})
    header = ["recording", *(["time"] if points else ["start", "end"]), "label", "label_id", "score"]
    header += ["start_std", "end_std"] if has_std else []
    header += [f"{side}_q{100 * level:g}" for level in levels for side in ("start", "end")]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for name, records in recordings:
            for record in records:
                row = [name, *([record["time"]] if points else record["segment"])]
                row += [record["label"], record["label_id"], record["score"]]
                row += record.get("segment_std", ["", ""]) if has_std else []
                quantiles = record.get("quantiles", {})
                row += [value for level in levels for value in quantiles.get(f"{level:g}", ["", ""])]
                writer.writerow(row)


def records_of(name: str, found: Detections) -> list[dict[str, Any]]:
    """The detections of recording `name` as records, by falling score.

    Raises:
        EventideError: a detection is not a finite number.
    """
    numbers = (found.segments, found.scores, found.segment_std, found.quantiles)
    if not all(np.isfinite(array).all() for array in numbers if array is not None):
        raise EventideError(
            f"recording {name}: detections hold NaN or infinite numbers; the model's weights or its features are broken"
        )
    records = found.to_list()
    return [records[i] for i in np.argsort(-np.asarray(found.scores), kind="stable")]


def read_results(path: str | Path) -> Predictions:
    """Read and check a results file.

    A record is `{"segment": [start, end], "score": s}`, or `{"time": t, "score": s}` of a point, with a `label`, a
    `label_id` or both, and `segment_std` and `quantiles` where boundaries are uncertain; other keys are passed over. Of
    the quantiles the lowest and the highest are kept. A label that is the number of its label id in quotes, as a model
    without label names writes it, is no label; a label that is a whole number is a label id.

    Raises:
        UsageError: no such file.
        EventideError: the file is not as it should be; the message tells every problem.
    """
    content = read_json(path, "results file")
    if isinstance(content, dict) and "results" not in content and "database" in content:
        raise EventideError(f"{path} holds annotations (its key is 'database'), not results; swap the two files?")
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise EventideError(
            f'{path}: a results file is {{"results": {{recording id: [...]}}}}, and this has no such map'
        )
    columns = _Columns()
    for number, (name, records) in enumerate(content["results"].items()):
        columns.add_recording(number, name, records)
    raise_problems(str(path), columns.problems)
    return columns.predictions(str(path), list(content["results"]))


@dataclass
class _Columns:
    """The records read so far, and what is wrong with them."""

    recording: list[int] = field(default_factory=list)
    segments: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label_ids: list[int | None] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    deviations: dict[int, list[float]] = field(default_factory=dict)  # row to `segment_std`
    quantiles: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # row to `quantiles`, two at least
    kind: EventKind | None = None
    first: str = ""  # the record that says the kind
    problems: list[str] = field(default_factory=list)

    def add_recording(self, number: int, name: str, records: Any) -> None:
        """Add the records of one recording."""
        place = f"results[{shown(name)}]"
        if not is_text(name):
            self.problems.append(f"{place}: the recording id is not valid Unicode")
        if not isinstance(records, list):
            self.problems.append(f"{place} is {shown(records)}; a list of detections is needed")
            return
        for position, record in enumerate(records):
            problem = self._add(number, record, f"{place}[{position}]")
            if problem:
                self.problems.append(f"{place}[{position}]: {problem}")

    def _add(self, number: int, record: Any, where: str) -> str | None:
        """Add one record, or say what is wrong with it."""
        if not isinstance(record, dict):
            return f"{shown(record)} is no object with segment (or time), label and score"
        segment, time, score = record.get("segment"), record.get("time"), record.get("score")
        label, label_id, std = record.get("label"), record.get("label_id"), record.get("segment_std")
        quantiles = record.get("quantiles") if time is None else None
        kind: EventKind = "segments" if time is None else "points"
        both = segment is not None and time is not None
        if time is not None:
            segment = [time, time]
        certain = std is None and quantiles is None
        if both or not certain or not _is_plain(segment, score, label, label_id):
            problem = record_problem(record)
            if problem:
                return problem
            if type(label) is int:
                label, label_id = None, label if label_id is None else label_id
        if kind != self.kind:
            if self.kind is not None:
                return f"{NAMES[kind]}, but {self.first} is {NAMES[self.kind]}; write one file for each"
            self.kind, self.first = kind, where
        if std is not None:
            self.deviations[len(self.scores)] = std
        if quantiles is not None and len(quantiles) > 1:
            self.quantiles[len(self.scores)] = quantiles
        self.recording.append(number)
        self.segments.append(segment)  # type: ignore[arg-type]
        self.scores.append(score)  # type: ignore[arg-type]
        self.label_ids.append(label_id)
        self.labels.append(label)
        return None

    def predictions(self, path: str, recordings: list[str]) -> Predictions:
        """All records as columns."""
        label_ids, label_index, names = class_columns(self.label_ids, self.labels)
        if label_ids is None and label_index is None and self.scores:
            raise EventideError(
                f"{path}: some detections have only a label and others only a label_id; give all of them the same"
            )
        intervals, levels = self._intervals()
        return Predictions(
            recordings=recordings,
            recording_index=np.array(self.recording, dtype=np.int64),
            segments=np.array(self.segments, dtype=np.float64).reshape(-1, 2),
            label_ids=label_ids,
            label_index=label_index,
            labels=names,
            kind=self.kind,
            scores=np.array(self.scores, dtype=np.float64),
            segment_std=self._deviations(),
            intervals=intervals,
            interval_levels=levels,
        )

    def _deviations(self) -> np.ndarray | None:
        """Standard deviations (E, 2), 0 in rows that have none; None where no row has."""
        if not self.deviations:
            return None
        deviations = np.zeros((len(self.scores), 2))
        deviations[list(self.deviations)] = list(self.deviations.values())
        return deviations

    def _intervals(self) -> tuple[np.ndarray | None, tuple[float, float] | None]:
        """The outermost quantiles (E, 2, 2), NaN in rows that have none, and their levels, if all have the same."""
        if not self.quantiles:
            return None, None
        intervals = np.full((len(self.scores), 2, 2), np.nan)
        levels = set()
        for row, quantiles in self.quantiles.items():
            low, high = min(quantiles, key=float), max(quantiles, key=float)
            intervals[row] = np.array([quantiles[low], quantiles[high]], dtype=np.float64).T
            levels.add((float(low), float(high)))
        return intervals, levels.pop() if len(levels) == 1 else None


def _is_plain(segment: Any, score: Any, label: Any, label_id: Any) -> bool:
    """A quick test that most good records pass; those that do not are looked at again, one rule after another."""
    return (
        type(segment) is list
        and len(segment) == 2
        and type(segment[0]) is float
        and type(segment[1]) is float
        and type(score) is float
        and -math.inf < segment[0] <= segment[1] < math.inf
        and -math.inf < score < math.inf
        and type(label) is str
        and label.isascii()
        and (label_id is None or (type(label_id) is int and 0 <= label_id < LARGEST_ID))
    )


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    """Whether a JSON value is a list of two numbers."""
    return isinstance(value, list) and len(value) == 2 and is_number(value[0]) and is_number(value[1])


def _are_quantiles(value: Any) -> bool:
    """Whether a JSON value maps levels between 0 and 1 to pairs of numbers that do not fall from level to level."""
    if not isinstance(value, dict) or not all(_is_level(key) and _is_pair(pair) for key, pair in value.items()):
        return False
    rising = [value[key] for key in sorted(value, key=float)]
    return all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(rising))


def _is_level(text: str) -> bool:
    """Whether a key of `quantiles` is a number between 0 and 1."""
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def record_problem(record: dict[str, Any]) -> str | None:
    """What is wrong with a record, if anything."""
    segment, score = record.get("segment"), record.get("score")
    label, label_id = record.get("label"), record.get("label_id")
    time, std = record.get("time"), record.get("segment_std")
    if segment is None and time is None:
        return "segment is missing (or time, of a point event)"
    if segment is not None and time is not None:
        return "both segment and time are given; a detection is a segment or a point event"
    if time is not None:
        if not is_number(time):
            return f"time is {shown(time)}; a number of seconds is needed"
    elif not _is_pair(segment):
        return f"segment is {shown(segment)}; [start, end] in seconds is needed"
    elif segment[1] < segment[0]:
        return f"segment {shown(segment)} ends before it starts"
    if std is not None and (time is not None or not _is_pair(std) or min(std) < 0):
        return f"segment_std is {shown(std)}; of a segment, [start, end] from 0 in seconds is needed"
    quantiles = record.get("quantiles")
    if quantiles is not None and time is None and not _are_quantiles(quantiles):
        return f'quantiles is {shown(quantiles)}; {{"0.1": [start, end], ...}} in seconds, rising by level, is needed'
    if label is None and label_id is None:
        return "neither label nor label_id is given"
    if label_id is not None and (type(label_id) is not int or not 0 <= label_id < LARGEST_ID):
        return f"label_id is {shown(label_id)}; a whole number from 0 is needed"
    if label is not None and not is_text(label) and not (type(label) is int and 0 <= label < LARGEST_ID):
        return f"label is {shown(label)}; a text is needed"
    if score is None:
        return "score is missing"
    return None if is_number(score) else f"score is {shown(score)}; a finite number is needed"


def class_columns(
    label_ids: list[int | None], labels: list[str | None]
) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """Ids (E,), index of labels (E,) and the labels; a column that not every record fills is None."""
    ids = None if None in label_ids else np.array(label_ids, dtype=np.int64)
    texts = [label for label in labels if label is not None]
    if len(texts) < len(labels) or (texts and all(a == str(b) for a, b in zip(labels, label_ids, strict=True))):
        return ids, None, []
    names = sorted(set(texts))
    position = {name: i for i, name in enumerate(names)}
    return ids, np.array([position[text] for text in texts], dtype=np.int64), names
