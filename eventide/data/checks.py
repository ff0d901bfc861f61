"""One pass over annotations and features that reports everything wrong with a data set, and what is in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from eventide.config import Config
from eventide.config_labels import label_problems
from eventide.data.annotations import AnnotationSet, empty_split_message, load_annotations, split
from eventide.data.check_report import (
    CheckReport,
    ClassSummary,
    LevelSummary,
    PointSummary,
    SplitSummary,
    percentiles,
)
from eventide.data.coverage import positive_points_per_event
from eventide.data.dataset import (
    class_labels,
    feature_store,
    grid_length,
    makes_proposals,
    missing_problem,
    rate_problem,
    timeline_of,
    too_many_labels,
)
from eventide.data.features import FeatureStore, non_finite_message
from eventide.data.point_checks import close_pairs_warning, smallest_gaps
from eventide.data.points import as_points, kind_findings, width_problem, without_points
from eventide.ops.problems import name_some
from eventide.ops.segments import unique_segments
from eventide.ops.timeline import seconds_to_grid
from eventide.types import EventideError, Recording, Timeline

Progress = Callable[[int, int], None]  # recordings done, recordings in all

# Bytes of float32 features that are scanned at a time.
_SCAN_BYTES = 64 << 20
# Features and annotated duration may differ by this share and these seconds before it is worth a warning.
_DURATION_SHARE, _DURATION_SECONDS = 0.2, 5.0

_KEYS = {"training": "train_split", "validation": "val_split"}
_EMPTY = {"training": "nothing can be learnt", "validation": "every score will be 0, and no model is the best"}


@dataclass
class _Facts:
    """What the feature files of one recording showed; `rows` is None where they are missing or unfit."""

    rows: int | None = None
    missing: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass
class _Group:
    """One split: training or validation."""

    name: str
    subsets: list[str]
    recordings: list[Recording]


def check_dataset(config: Config, *, scan_values: bool = True, progress: Progress | None = None) -> CheckReport:
    """Check annotations and features of a configuration; every problem is in the report, none is raised.

    `scan_values` reads all features to find NaN and Inf; without it only their headers are read. `progress` is called
    as recordings are done.
    """
    config = config.resolve()
    report = CheckReport()
    try:
        annotations = load_annotations(config.dataset.json_file, require=False)
    except EventideError as error:
        report.problems.append(str(error))
        annotations = None
    store = _open_store(config, report)
    if annotations is None:
        return report
    report.problems += [f"{annotations.path}: {problem}" for problem in annotations.problems]
    report.warnings += [f"{annotations.path}: {warning}" for warning in annotations.warnings]
    groups = _of_kind(config, annotations, _groups(config, annotations, report), report)
    recordings = list({recording.id: recording for group in groups for recording in group.recordings}.values())
    rates = [rate_problem(config.dataset, recording) for recording in recordings]
    report.problems += [f"{annotations.path}: {problem}" for problem in rates if problem]
    facts = _scan_all(store, recordings, scan_values, progress) if store else {}
    _report_facts(config, facts, report, store)
    _check_labels(config, annotations, groups, report)
    _check_events(config, annotations, recordings, facts, report)
    report.warnings += [
        f"{annotations.path}: {_KEYS[group.name]} has no events: {_EMPTY[group.name]}"
        for group in groups
        if group.recordings and not any(len(recording.label_ids) for recording in group.recordings)
    ]
    report.splits = [_summary(config, group, facts) for group in groups]
    report.classes = _classes(config, annotations, groups)
    if report.events == "points":
        _summarise_points(config, annotations, recordings, facts, report)
    else:
        _summarise_levels(config, groups[0].recordings, facts, report)
    return report


def _open_store(config: Config, report: CheckReport) -> FeatureStore | None:
    try:
        store = feature_store(config.dataset)
        report.problems += store.problems()
        return store
    except EventideError as error:
        report.problems.append(str(error))
        return None


def _groups(config: Config, annotations: AnnotationSet, report: CheckReport) -> list[_Group]:
    """Training and validation recordings; subsets without recordings and recordings in both are reported."""
    groups = []
    existing = {subset.lower() for subset in annotations.subsets()}
    for name, subsets in (("training", config.train_split), ("validation", config.val_split)):
        empty = [subset for subset in subsets if subset.lower() not in existing]
        if empty:
            report.problems.append(f"{annotations.path}: {_KEYS[name]}: {empty_split_message(empty, annotations)}")
        found = [subset for subset in subsets if subset not in empty]
        groups.append(_Group(name, list(subsets), split(annotations, found) if found else []))
    training, validation = ({recording.id for recording in group.recordings} for group in groups)
    both = sorted(training & validation)
    if both:
        report.warnings.append(
            f"{annotations.path}: {len(both)} recording(s) are in both train_split and val_split, so that scores say "
            f"nothing about new recordings: {name_some(both)}"
        )
    return groups


def _of_kind(config: Config, annotations: AnnotationSet, groups: Sequence[_Group], report: CheckReport) -> list[_Group]:
    """The groups with the events that are learnt, segments or points; those of the other kind are reported.

    Where there are only events of the other kind, they are shown as what they are.
    """
    everything = [recording for group in groups for recording in group.recordings]
    problem, warning = kind_findings(everything, config)
    report.problems += [f"{annotations.path}: {problem}"] if problem else []
    report.warnings += [f"{annotations.path}: {warning}"] if warning else []
    if config.dataset.events == "points" and (unknown := width_problem(config.model.heatmap.width, annotations.labels)):
        report.problems.append(f"{annotations.path}: {unknown}")
    if config.dataset.events == "points" or problem:
        report.events = "points"
        position = config.dataset.point_position
        return [replace(group, recordings=[as_points(r, position) for r in group.recordings]) for group in groups]
    return [replace(group, recordings=[without_points(r) for r in group.recordings]) for group in groups]


def _scan_all(
    store: FeatureStore, recordings: Sequence[Recording], scan_values: bool, progress: Progress | None
) -> dict[str, _Facts]:
    """Facts about the features of every recording, in threads: reading and NumPy's loops let others run."""
    facts = {}
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        ids = [recording.id for recording in recordings]
        found = pool.map(lambda recording_id: _scan(store, recording_id, scan_values), ids)
        for done, (recording_id, fact) in enumerate(zip(ids, found, strict=True), start=1):
            facts[recording_id] = fact
            if progress:
                progress(done, len(ids))
    return facts


def _scan(store: FeatureStore, recording_id: str, scan_values: bool) -> _Facts:
    """Check the files of one recording."""
    try:
        if not store.exists(recording_id):
            return _Facts(missing=True)
        sources = store.sources(recording_id)
        headers = [store.header(source) for source in sources]
        problems = store.header_problems(sources, headers)
        if problems:
            return _Facts(problems=problems)
        for source, header in zip(sources, headers, strict=True):
            step = max(1, _SCAN_BYTES // (4 * header.shape[1]))
            for start in range(0, header.shape[0] if scan_values else 0, step):
                stop = min(start + step, header.shape[0])
                rows = store.rows(source, start, stop)
                if not np.isfinite(rows).all():
                    problems.append(f"{source}: {non_finite_message(rows, start)}")
                    break
        return _Facts(min(header.shape[0] for header in headers), problems=problems)
    except EventideError as error:
        return _Facts(problems=[str(error)])


def _report_facts(config: Config, facts: dict[str, _Facts], report: CheckReport, store: FeatureStore | None) -> None:
    missing = [recording_id for recording_id, fact in facts.items() if fact.missing]
    if store and missing and config.dataset.missing == "skip":
        report.warnings.append(f"{len(missing)} recording(s) without features are skipped: {name_some(missing, 20)}")
    elif store:
        report.problems += [missing_problem(store, name, hint=index < 3) for index, name in enumerate(missing)]
    report.problems += [
        f"recording {recording_id!r}: {problem}" for recording_id, fact in facts.items() for problem in fact.problems
    ]


def _check_labels(config: Config, annotations: AnnotationSet, groups: Sequence[_Group], report: CheckReport) -> None:
    """Label ids that do not fit, classes without training examples, excluded classes that have some."""
    settings, excluded = config.dataset, set(config.train_cfg.head_empty_cls)
    proposals, fused = makes_proposals(settings, annotations), bool(config.test_cfg.ext_score_file)
    if proposals or len(annotations.labels) <= settings.num_classes:
        known = class_labels(settings, annotations, keep_all=fused)
        report.problems += label_problems(config.test_cfg, known)
    if proposals:
        return
    if len(annotations.labels) > settings.num_classes:
        first = next(
            (
                f"; first in recording {recording.id!r}"
                for recording in annotations.recordings.values()
                if (recording.label_ids >= settings.num_classes).any()
            ),
            "",
        )
        report.problems.append(f"{annotations.path}: {too_many_labels(settings, annotations)}{first}")
    counts = _events_per_class(groups[0].recordings)
    names = dict(enumerate(annotations.labels))
    empty = [index for index in range(settings.num_classes) if not counts[index] and index not in excluded]
    if empty and groups[0].recordings:
        listed = ", ".join(f"{names[index]} ({index})" if index in names else str(index) for index in empty[:10])
        report.warnings.append(
            f"{annotations.path}: {len(empty)} class(es) without examples in training: {listed}"
            f"{', ...' if len(empty) > 10 else ''}; to keep them from being predicted set "
            f"train_cfg.head_empty_cls to {sorted(excluded | set(empty))}"
        )
    used = sorted(index for index in excluded if counts[index])
    if used:
        report.warnings.append(f"train_cfg.head_empty_cls lists classes that have training examples: {used}")


def _events_per_class(recordings: Sequence[Recording]) -> Counter[int]:
    return Counter(int(label_id) for recording in recordings for label_id in recording.label_ids)


def _placed(config: Config, recording: Recording, facts: dict[str, _Facts]) -> tuple[Timeline, int] | None:
    """The timeline and grid length of a recording; None where its features or its rate are unknown."""
    rows = facts[recording.id].rows if recording.id in facts else None
    if rows is None or rate_problem(config.dataset, recording):
        return None
    return timeline_of(config.dataset, recording, rows), grid_length(config.dataset, rows)


def _check_events(
    config: Config,
    annotations: AnnotationSet,
    recordings: Sequence[Recording],
    facts: dict[str, _Facts],
    report: CheckReport,
) -> None:
    """Events too short for the grid or beyond the features, durations that the features contradict."""
    short: dict[str, int] = {}
    beyond: dict[str, int] = {}
    unlike: list[str] = []
    for recording in recordings:
        placed = _placed(config, recording, facts)
        if placed is None:
            continue
        timeline, length = placed
        grid = seconds_to_grid(recording.segments, timeline.fps, timeline.feat_stride, timeline.num_frames)
        short[recording.id] = int((grid[:, 1] - grid[:, 0] < 1).sum()) if report.events == "segments" else 0
        end = length + 0.5 * timeline.num_frames / timeline.feat_stride
        beyond[recording.id] = int((grid[:, 0] >= end).sum())
        covered = ((length - 1) * timeline.feat_stride + timeline.num_frames) / timeline.fps
        duration = recording.duration or covered
        if abs(covered - duration) > max(_DURATION_SHARE * duration, _DURATION_SECONDS):
            unlike.append(f"{recording.id!r} ({covered:.1f} s of {duration:.1f} s)")
    for counts, what in (
        (short, "shorter than one grid step, so that they are hard to find"),
        (beyond, "after the last feature vector"),
    ):
        named = [f"{name!r} ({count})" for name, count in counts.items() if count]
        if named:
            report.warnings.append(
                f"{annotations.path}: {sum(counts.values())} event(s) in {len(named)} recording(s) are {what}: "
                f"{', '.join(named[:10])}{', ...' if len(named) > 10 else ''}"
            )
    if unlike:
        report.warnings.append(
            f"{annotations.path}: the features of {len(unlike)} recording(s) cover another time than their duration "
            f"(wrong fps or feat_stride?): {', '.join(unlike[:10])}{', ...' if len(unlike) > 10 else ''}"
        )


def _summary(config: Config, group: _Group, facts: dict[str, _Facts]) -> SplitSummary:
    placed = [(recording, _placed(config, recording, facts)) for recording in group.recordings]
    seconds = [
        recording.duration or (place[1] * place[0].feat_stride / place[0].fps if place else 0.0)
        for recording, place in placed
    ]
    vectors = [place[1] for _, place in placed if place]
    return SplitSummary(
        name=group.name,
        subsets=group.subsets,
        recordings=len(group.recordings),
        missing=sum(recording.id in facts and facts[recording.id].missing for recording in group.recordings),
        negatives=sum(len(recording.label_ids) == 0 for recording in group.recordings),
        events=sum(len(recording.label_ids) for recording in group.recordings),
        hours=sum(seconds) / 3600,
        vectors_min=min(vectors, default=None),
        vectors_median=float(np.median(vectors)) if vectors else None,
        vectors_max=max(vectors, default=None),
    )


def _classes(config: Config, annotations: AnnotationSet, groups: Sequence[_Group]) -> list[ClassSummary]:
    """Events per class of the annotations (also where they are learnt as proposals) and split."""
    proposals = makes_proposals(config.dataset, annotations)
    count = len(annotations.labels) if proposals else max(len(annotations.labels), config.dataset.num_classes)
    names = annotations.labels + [str(index) for index in range(len(annotations.labels), count)]
    counts = {group.name: _events_per_class(group.recordings) for group in groups}
    return [
        ClassSummary(index, name, {group: counts[group][index] for group in counts}) for index, name in enumerate(names)
    ]


def _summarise_points(
    config: Config,
    annotations: AnnotationSet,
    recordings: Sequence[Recording],
    facts: dict[str, _Facts],
    report: CheckReport,
) -> None:
    """Fill in the grid step and the smallest gap of every class; warn of points that cannot be told apart."""
    stride = config.model.backbone.scale_factor**config.model.fpn_start_level
    placed = [(recording, *place) for recording in recordings if (place := _placed(config, recording, facts))]
    steps = [stride * timeline.feat_stride / timeline.fps for _, timeline, _ in placed]
    report.grid_step = max(steps, default=None)
    smallest = smallest_gaps(recordings)
    for item in report.classes:
        item.smallest_gap = smallest.get(item.label_id)
    one_class = makes_proposals(config.dataset, annotations)
    if warning := close_pairs_warning(placed, stride, annotations.labels, one_class):
        report.warnings.append(f"{annotations.path}: {warning}")


def _summarise_levels(
    config: Config, recordings: Sequence[Recording], facts: dict[str, _Facts], report: CheckReport
) -> None:
    """Fill in the table of pyramid levels and the share of training events without a positive point."""
    model, train = config.model, config.train_cfg
    ranges = model.regression_range or []
    strides = [model.backbone.scale_factor ** (model.fpn_start_level + level) for level in range(len(ranges))]
    radius = train.center_sample_radius if train.center_sample == "radius" else None
    durations, eligible, won = [np.zeros(0)], [np.zeros((0, len(ranges)))], [np.zeros((0, len(ranges)))]
    for recording in recordings:
        placed = _placed(config, recording, facts)
        if placed is None or not len(recording.segments):
            continue
        timeline, length = placed
        seconds = recording.segments[unique_segments(recording.segments, recording.label_ids)]
        grid = seconds_to_grid(seconds.astype(np.float32), timeline.fps, timeline.feat_stride, timeline.num_frames)
        coverage = positive_points_per_event(grid, length, strides, ranges, radius)
        durations.append(seconds[:, 1] - seconds[:, 0])
        eligible.append(coverage.eligible)
        won.append(coverage.won)
    all_durations, has_eligible = np.concatenate(durations), np.concatenate(eligible) > 0
    learnt = np.concatenate(won).sum(axis=1) > 0
    events = len(all_durations)
    report.levels = [
        LevelSummary(
            level,
            strides[level],
            low,
            high,
            int(has_eligible[:, level].sum()),
            float(has_eligible[:, level].mean()) if events else 0.0,
            percentiles(all_durations[has_eligible[:, level]]),
        )
        for level, (low, high) in enumerate(ranges)
    ]
    without = int((~has_eligible.any(axis=1)).sum())
    lost = int((~learnt).sum()) - without
    share = (without + lost) / events if events else 0.0
    report.points = PointSummary(events, without, lost, share, percentiles(all_durations[~learnt]))
