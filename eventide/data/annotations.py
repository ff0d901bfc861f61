"""ActivityNet-style annotation files: read, checked record by record, turned into `Recording` objects.

    {"database": {id: {"subset": ..., "duration": seconds, "fps": ..., "annotations": [
        {"segment": [start, end], "label": ..., "label_id": ...},
        {"time": time, "label": ..., "label_id": ...}, ...]}}}

Times are seconds. A file may hold both segments and point events (`time`). `duration`, `fps`, `label_id` and
`annotations` may be missing; other keys are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eventide.ops.json_reading import is_number, is_text, read_json, shown
from eventide.ops.problems import raise_problems
from eventide.types import EventideError, Recording, UsageError

# Times are compared with this slack, so that a rounded last digit is no problem (seconds).
TIME_TOLERANCE = 1e-3
# A label id beyond this is a mistake, not a class: the list of labels has one entry per id.
MAX_LABEL_ID = 99_999


@dataclass
class AnnotationSet:
    """All recordings of one annotation file.

    `labels[i]` is the name of label id i (the number itself where the file names no such class).
    `problems` is empty unless the file was read with `require=False`; `warnings` are worth printing, and no more.
    """

    path: Path
    recordings: dict[str, Recording]
    labels: list[str]
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def subsets(self) -> dict[str, int]:
        """Recordings per subset, as the file spells the subsets."""
        counts: dict[str, int] = {}
        for recording in self.recordings.values():
            counts[recording.subset] = counts.get(recording.subset, 0) + 1
        return counts


class _Event(NamedTuple):
    start: float
    end: float
    label: str | None
    label_id: int | None
    where: str
    is_point: bool


class _Record(NamedTuple):
    id: str
    subset: str
    fps: float | None
    duration: float | None
    events: list[_Event]


def load_annotations(path: str | Path, *, labels: Sequence[str] | None = None, require: bool = True) -> AnnotationSet:
    """Read and check an annotation file.

    `labels` fixes the classes (index = label id), for example those of a trained model; events are then matched by
    label, and a label that is not among them is a problem. Without it, ids come from the file, or, where the file
    has none, from the sorted labels. With `require`, all problems are raised as one `EventideError`; without it
    they are listed in the result, which leaves out the events they concern.

    Raises:
        UsageError: there is no such file, or it cannot be opened.
        EventideError: the file is no annotation file at all, or, with `require`, has problems.
    """
    if not str(path):
        raise UsageError("dataset.json_file: no annotation file is given")
    path = Path(path)
    database, problems = _read_database(path)
    reader = _Reader(problems)
    records = [record for key, value in database.items() if (record := reader.record(key, value)) is not None]
    reader.finish()
    if labels is None:
        names, ids = _labels_of_file(records, problems)
    else:
        names, ids = list(labels), _match_labels(records, labels, problems)
    if require:
        raise_problems(str(path), problems)
    recordings = {record.id: _recording(record, ids) for record in records}
    return AnnotationSet(path, recordings, names, reader.warnings, problems)


def split(annotations: AnnotationSet, names: str | Iterable[str]) -> list[Recording]:
    """The recordings of the subsets `names`, in file order; subsets are compared without regard to case.

    A name without recordings is an `EventideError` that lists the subsets that exist.
    """
    names = [names] if isinstance(names, str) else list(names)
    wanted = {name.lower() for name in names}
    empty = [name for name in names if name.lower() not in {subset.lower() for subset in annotations.subsets()}]
    if empty or not names:
        raise EventideError(f"{annotations.path}: {empty_split_message(empty, annotations)}")
    return [recording for recording in annotations.recordings.values() if recording.subset.lower() in wanted]


def empty_split_message(names: Sequence[str], annotations: AnnotationSet) -> str:
    """What to say about subset names that have no recordings."""
    subsets = annotations.subsets()
    existing = ", ".join(f"{subset!r} ({count})" for subset, count in subsets.items()) or "none"
    what = " and ".join(repr(name) for name in names) or "an empty list of subsets"
    close = [match for name in names for match in get_close_matches(name, subsets, n=1)]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no recordings in subset {what}; subsets in the file: {existing}{hint}"


def _read_database(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The parsed `database` object and the duplicate keys of the file, as problems."""
    problems: list[str] = []
    document = read_json(path, "annotation file", problems)
    if not isinstance(document, dict) or not isinstance(document.get("database"), dict):
        found = "a JSON object without one" if isinstance(document, dict) else f"{_kind(document)}"
        if isinstance(document, dict) and "database" in document:
            found = f'"database" is {_kind(document["database"])}'
        elif isinstance(document, dict) and "results" in document:
            found = "a results file (predictions)"
        raise EventideError(f'{path}: expected a JSON object with an object "database" (id to recording), got {found}')
    return document["database"], problems


def _kind(value: Any) -> str:
    """What a JSON value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names[type(value)]


class _Reader:
    """Checks recordings and events one by one and collects what is wrong with them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.warnings: list[str] = []
        self._overhang: list[tuple[float, str]] = []
        self._short: list[str] = []

    def record(self, key: str, value: Any) -> _Record | None:
        """One entry of the database; None when there is no recording to speak of."""
        where = f"recording {key!r}"
        if not key or not is_text(key):
            self.problems.append(f"{where}: the id is {'not valid Unicode' if key else 'empty'}")
            return None
        if not isinstance(value, dict):
            self.problems.append(f"{where}: expected an object, got {_kind(value)}")
            return None
        subset = value.get("subset")
        if not is_text(subset) or not subset.strip():
            self.problems.append(f'{where}: "subset" must be text such as "training", got {_shown(value, "subset")}')
            subset = ""
        duration = self._positive(value, "duration", where)
        fps = self._positive(value, "fps", where)
        annotations = value.get("annotations", [])
        if not isinstance(annotations, list):
            self.problems.append(f'{where}: "annotations" must be a list, got {_kind(annotations)}')
            annotations = []
        events = [self._event(item, duration, f"{where}, annotations[{i}]") for i, item in enumerate(annotations)]
        return _Record(key, subset, fps, duration, [event for event in events if event is not None])

    def finish(self) -> None:
        """Add the problems and warnings that are told once for the whole file."""
        if self._overhang:
            most, where = max(self._overhang)
            self.warnings.append(
                f"{len(self._overhang)} segment(s) end after their recording does, by up to {most:.3g} s ({where})"
            )
        if self._short:
            self.warnings.append(
                f"{len(self._short)} segment(s) shorter than {TIME_TOLERANCE:g} s are not used, except as point "
                f"events, first {self._short[0]}"
            )

    def _positive(self, value: dict[str, Any], key: str, where: str) -> float | None:
        """An optional positive number of a recording."""
        if value.get(key) is None:
            return None
        if not is_number(value[key]) or value[key] <= 0:
            self.problems.append(f'{where}: "{key}" must be a positive number, got {_shown(value, key)}')
            return None
        return float(value[key])

    def _event(self, item: Any, duration: float | None, where: str) -> _Event | None:
        if not isinstance(item, dict):
            self.problems.append(f"{where}: expected an object, got {_kind(item)}")
            return None
        before = len(self.problems)
        is_point = item.get("time") is not None
        times = self._time(item, duration, where) if is_point else self._segment(item, duration, where)
        label = item.get("label")
        label_id = item.get("label_id")
        if label is not None and (not is_text(label) or not label):
            self.problems.append(f'{where}: "label" must be text, got {_shown(item, "label")}')
        if label_id is not None and (
            isinstance(label_id, bool) or not isinstance(label_id, int) or not 0 <= label_id <= MAX_LABEL_ID
        ):
            self.problems.append(
                f'{where}: "label_id" must be a whole number from 0 to {MAX_LABEL_ID}, got {_shown(item, "label_id")}'
            )
        if label is None and label_id is None:
            self.problems.append(f'{where}: has neither "label" nor "label_id"')
        if times is None or len(self.problems) > before:
            return None
        return _Event(*times, label, label_id, where, is_point)

    def _time(self, item: dict[str, Any], duration: float | None, where: str) -> tuple[float, float] | None:
        """The time of a point event in seconds, twice, checked against the recording."""
        if item.get("segment") is not None:
            self.problems.append(
                f'{where}: has both "time" and "segment"; keep "time" for a point event, "segment" for one that lasts'
            )
        elif not is_number(item["time"]):
            self.problems.append(f'{where}: "time" must be a finite number of seconds, got {_shown(item, "time")}')
        elif (time := float(item["time"])) < -TIME_TOLERANCE:
            self.problems.append(f"{where}: the time lies before the recording, at {time:g} s")
        elif duration is not None and time > duration + TIME_TOLERANCE:
            self.problems.append(f"{where}: the time ({time:g} s) is after the recording, which lasts {duration:g} s")
        else:
            return time, time
        return None

    def _segment(self, item: dict[str, Any], duration: float | None, where: str) -> tuple[float, float] | None:
        """Start and end in seconds, checked against one another and against the recording."""
        segment = item.get("segment")
        if not isinstance(segment, list) or len(segment) != 2 or not all(map(is_number, segment)):
            other = "" if "segment" in item else ' (or "time" one, of a point event)'
            self.problems.append(
                f'{where}: "segment" must be two finite numbers [start, end] in seconds{other}, '
                f"got {_shown(item, 'segment')}"
            )
            return None
        start, end = map(float, segment)
        if end < start:
            self.problems.append(f"{where}: the segment ends ({end:g} s) before it starts ({start:g} s)")
        elif start < -TIME_TOLERANCE:
            self.problems.append(f"{where}: the segment starts before the recording, at {start:g} s")
        elif duration is not None and start >= duration and end > duration + TIME_TOLERANCE:
            self.problems.append(
                f"{where}: the segment ({start:g} to {end:g} s) lies outside the recording, which lasts {duration:g} s"
            )
        else:
            if duration is not None and end > duration + TIME_TOLERANCE:
                self._overhang.append((end - duration, where))
            if end - start < TIME_TOLERANCE:
                self._short.append(where)
            return start, end
        return None


def _shown(item: dict[str, Any], key: str) -> str:
    """The value of a key for a message."""
    if key not in item:
        return "nothing (the key is missing)"
    value = item[key]
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(part, dict | list) for part in value)):
        return f"{_kind(value)} with more inside"
    return shown(value)


def _labels_of_file(records: list[_Record], problems: list[str]) -> tuple[list[str], dict[str | int, int]]:
    """The list of labels of a file, and the id of each label (and of each bare id, for events without a label)."""
    ids: dict[str, int] = {}
    name_of: dict[int, tuple[str, str]] = {}
    without_id: dict[str, str] = {}
    bare: set[int] = set()
    for event in (event for record in records for event in record.events):
        if event.label is None:
            bare.add(event.label_id or 0)
        elif event.label_id is None:
            without_id.setdefault(event.label, event.where)
        elif event.label in ids and ids[event.label] != event.label_id:
            problems.append(
                f"{event.where}: label {event.label!r} has label_id {event.label_id}, but {ids[event.label]} elsewhere"
            )
        else:
            name, where = name_of.setdefault(event.label_id, (event.label, event.where))
            if name != event.label:
                problems.append(
                    f"{event.where}: label_id {event.label_id} stands for {event.label!r}, but for {name!r} in {where}"
                )
            else:
                ids[event.label] = event.label_id
    if not ids and not bare:
        ids = {label: index for index, label in enumerate(sorted(without_id))}
    else:
        problems.extend(
            f"{where}: label {label!r} has no label_id, while other labels have; give all of them one, or none"
            for label, where in without_id.items()
            if label not in ids
        )
    count = max([*ids.values(), *bare], default=-1) + 1
    names = [str(index) for index in range(count)]
    for label, index in ids.items():
        names[index] = label
    known: dict[str | int, int] = {index: index for index in bare}
    known.update(ids)
    return names, known


def _match_labels(records: list[_Record], labels: Sequence[str], problems: list[str]) -> dict[str | int, int]:
    """Ids by label where the classes are given; labels that are not among them become problems."""
    ids: dict[str | int, int] = {label: index for index, label in enumerate(labels)}
    unknown: dict[str, list[str]] = {}
    for event in (event for record in records for event in record.events):
        if event.label is not None and event.label not in ids:
            unknown.setdefault(f"unknown label {event.label!r}", []).append(event.where)
        elif event.label is None and event.label_id is not None:
            if event.label_id < len(labels):
                ids[event.label_id] = event.label_id
            else:
                what = f"label_id {event.label_id} is beyond the {len(labels)} known classes"
                unknown.setdefault(what, []).append(event.where)
    problems.extend(f"{places[0]}: {what} ({len(places)} annotation(s))" for what, places in unknown.items())
    return ids


def _recording(record: _Record, ids: dict[str | int, int]) -> Recording:
    """The record as arrays, without the events whose label has no id (they are among the problems)."""
    keys = [event.label_id if event.label is None else event.label for event in record.events]
    known = [(event, ids[key]) for event, key in zip(record.events, keys, strict=True) if key in ids]
    segments = np.array([(event.start, event.end) for event, _ in known], dtype=np.float64).reshape(-1, 2)
    label_ids = np.array([label_id for _, label_id in known], dtype=np.int64)
    is_point = np.array([event.is_point for event, _ in known], dtype=bool)
    points = is_point if is_point.any() else None
    return Recording(record.id, record.subset, record.fps, record.duration, segments, label_ids, points)
