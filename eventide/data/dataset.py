"""Recordings as samples: features on their grid, events (segments or points) on the same grid."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from eventide.config import DEFAULT_MAX_SEQ_LEN, Config, DatasetConfig
from eventide.data import augment
from eventide.data.annotations import AnnotationSet, load_annotations, split
from eventide.data.features import FeatureStore
from eventide.data.points import kind_findings, target_ranges, width_problem, without_points
from eventide.ops.problems import name_some, raise_problems
from eventide.ops.segments import unique_segments
from eventide.ops.timeline import seconds_to_grid
from eventide.types import EventideError, Recording, Sample, Timeline, UsageError


class EventDataset:
    """The recordings of some subsets of a data set, as samples.

    In training, a sample is a random window of its recording, which depends on (config.seed, epoch, index) alone; in
    evaluation it is the whole recording. `recordings` are as annotated (seconds, label ids of the file); `labels`
    are the names of the model's classes; `warnings` are worth printing once.

    Where `dataset.events` is points, the events of a sample are point events, each as the segment from its time less
    the width of its target to its time plus that width.

    Raises:
        EventideError: annotations or features are missing or unfit, or all events are of the other kind in training;
            one message lists all problems.
    """

    def __init__(
        self, config: Config, splits: Sequence[str], *, training: bool, annotations: AnnotationSet | None = None
    ) -> None:
        config = config.resolve()
        self.settings: DatasetConfig = config.dataset
        self.seed = config.seed
        self.training = training
        self.points = config.dataset.events == "points"
        self._width = config.model.heatmap.width
        if self.fixed_length and self.settings.downsample_rate > 1:
            raise UsageError("dataset.downsample_rate: must be 1 where recordings are resized to a fixed length")
        annotations = annotations or load_annotations(self.settings.json_file)
        self.proposals = makes_proposals(self.settings, annotations)
        fused = bool(config.test_cfg.ext_score_file)
        self.labels = class_labels(self.settings, annotations, keep_all=fused)
        self.store = feature_store(self.settings)
        self.warnings: list[str] = []
        self._known_labels = annotations.labels
        self.recordings = self._usable(split(annotations, splits), splits, annotations)
        self._note_kinds(config, splits, annotations)
        self._events = [self._prepared_events(recording) for recording in self.recordings]

    def __len__(self) -> int:
        return len(self.recordings)

    def restricted(self, indices: Sequence[int]) -> EventDataset:
        """The same data set with these recordings alone, in this order."""
        chosen = copy.copy(self)
        chosen.recordings = [self.recordings[index] for index in indices]
        chosen._events = [self._events[index] for index in indices]
        return chosen

    @property
    def fixed_length(self) -> bool:
        """Whether the ActivityNet rules apply: every recording has one number of vectors, whatever its duration."""
        return has_fixed_length(self.settings)

    def length(self, index: int) -> int:
        """Feature vectors of a whole recording on the grid of its samples (after down- or up-sampling)."""
        return grid_length(self.settings, self.store.length(self.recordings[index].id))

    @property
    def max_seq_len(self) -> int:
        """The most vectors that a training sample has (`dataset.max_seq_len`)."""
        return self.settings.max_seq_len or DEFAULT_MAX_SEQ_LEN

    def sample_length(self, index: int, epoch: int = 0) -> int:
        """Feature vectors of a sample after its random cut, without reading any feature."""
        length, crop = self.length(index), self.settings.crop_ratio
        if not self.training:
            return length
        if crop is None:
            return min(length, self.max_seq_len)
        return augment.window_length(length, self.max_seq_len, crop, self._generator(index, epoch))

    def longest_sample(self) -> int:
        """The most feature vectors that a sample of any epoch can have; no features are read."""
        longest = max(self.length(index) for index in range(len(self)))
        return min(longest, self.max_seq_len) if self.training else longest

    def longest_event(self) -> float:
        """Length of the longest event in grid steps; 0 where there is none."""
        longest = 0.0
        for index, (seconds, _) in enumerate(self._events):
            if len(seconds):
                timeline = self.timeline(index)
                length = float((seconds[:, 1] - seconds[:, 0]).max())
                longest = max(longest, length * timeline.fps / timeline.feat_stride)
        return longest

    def _generator(self, index: int, epoch: int) -> np.random.Generator:
        """The random numbers of a sample; how many vectors it keeps is the first thing drawn from them."""
        return augment.generator_for(self.seed, augment.SAMPLE_STREAM, epoch, index)

    def timeline(self, index: int) -> Timeline:
        """How the grid of a whole recording maps to seconds."""
        recording = self.recordings[index]
        return timeline_of(self.settings, recording, self.store.length(recording.id))

    def sample(self, index: int, epoch: int = 0) -> Sample:
        """The sample of a recording; `epoch` matters in training only.

        The timeline of a training sample counts from the start of its window.
        """
        recording, timeline = self.recordings[index], self.timeline(index)
        seconds, label_ids = self._events[index]
        segments = seconds_to_grid(seconds, timeline.fps, timeline.feat_stride, timeline.num_frames)
        length = self.length(index)
        window = augment.Window(0, length)
        if self.training:
            rng = self._generator(index, epoch)
            cut = self._training_window_of_points if self.points else self._training_window
            segments, label_ids, window = cut(segments, label_ids, length, timeline, rng)
        features = self._read(recording.id, window)
        segments = segments.astype(np.float32, copy=False)
        return Sample(recording.id, features, torch.from_numpy(segments), torch.from_numpy(label_ids.copy()), timeline)

    def _training_window(
        self, segments: np.ndarray, label_ids: np.ndarray, length: int, timeline: Timeline, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, augment.Window]:
        """The random window of a training sample, and the events in it on its own grid."""
        settings, max_seq_len = self.settings, self.max_seq_len
        offset = 0.5 * timeline.num_frames / timeline.feat_stride
        if self.fixed_length:
            segments, label_ids = augment.clip_to_grid(
                segments, label_ids, length, trunc_thresh=settings.trunc_thresh, offset=offset
            )
        size = augment.window_length(length, max_seq_len, settings.crop_ratio, rng)
        if size == length:
            return segments, label_ids, augment.Window(0, length)
        keep = settings.trunc_thresh
        window = augment.choose_window(length, size, segments, trunc_thresh=keep, offset=offset, rng=rng)
        segments, label_ids = augment.cut_to_window(segments, label_ids, window, trunc_thresh=keep, offset=offset)
        return segments, label_ids, window

    def _training_window_of_points(
        self, ranges: np.ndarray, label_ids: np.ndarray, length: int, timeline: Timeline, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, augment.Window]:
        """The random window of a training sample, and the point events in it on its own grid.

        Points after the last feature vector, beyond what it covers, are left out: nothing shows them.
        """
        times = ranges.mean(axis=1)
        covered = times < length + 0.5 * timeline.num_frames / timeline.feat_stride
        ranges, label_ids, times = ranges[covered], label_ids[covered], times[covered]
        size = augment.window_length(length, self.max_seq_len, self.settings.crop_ratio, rng)
        if size == length:
            return ranges, label_ids, augment.Window(0, length)
        window = augment.choose_window_of_points(length, size, times, rng=rng)
        ranges, label_ids = augment.cut_points_to_window(ranges, label_ids, window, length)
        return ranges, label_ids, window

    def _read(self, recording_id: str, window: augment.Window) -> torch.Tensor:
        """The features of a window, (T, C) float32; only its rows are read unless the recording is resized."""
        settings = self.settings
        if not settings.force_upsampling:
            rate = settings.downsample_rate
            rows = self.store.read(recording_id, window.start * rate, (window.stop - 1) * rate + 1, rate)
            return torch.from_numpy(rows)
        whole = torch.from_numpy(self.store.read(recording_id))
        return resize(whole, settings.max_seq_len or len(whole))[window.start : window.stop]

    def _prepared_events(self, recording: Recording) -> tuple[np.ndarray, np.ndarray]:
        """Events for the model: (G, 2) seconds and (G,) label ids, without duplicates and empty ones."""
        if self.points:
            segments, label_ids = target_ranges(
                recording, self.settings.point_position, self._width, self._known_labels
            )
        else:
            recording = without_points(recording)
            kept = unique_segments(recording.segments, recording.label_ids)
            # float32 already here: the published numbers depend on it
            segments, label_ids = recording.segments[kept].astype(np.float32), recording.label_ids[kept]
        return segments, np.zeros_like(label_ids) if self.proposals else label_ids

    def _note_kinds(self, config: Config, splits: Sequence[str], annotations: AnnotationSet) -> None:
        """Warn of events of the other kind; in training, refuse a data set that has no others, or unknown labels."""
        problem, warning = kind_findings(self.recordings, config)
        unknown = width_problem(self._width, annotations.labels) if self.points else ""
        where = f"{annotations.path}, subset {' + '.join(splits)}"
        if self.training:
            raise_problems(where, [text for text in (problem, unknown) if text])
        if warning:
            self.warnings.append(f"{where}: {warning}")

    def _usable(
        self, recordings: list[Recording], splits: Sequence[str], annotations: AnnotationSet
    ) -> list[Recording]:
        """The recordings that have features; anything that keeps the others from use is an error, or skipped."""
        problems = [problem for recording in recordings if (problem := rate_problem(self.settings, recording))]
        missing = [recording.id for recording in recordings if not self.store.exists(recording.id)]
        if self.settings.missing == "skip":
            gone = set(missing)
            recordings = [recording for recording in recordings if recording.id not in gone]
            if missing:
                self.warnings.append(f"skipped {len(missing)} recording(s) without features: {name_some(missing)}")
        else:
            problems += [missing_problem(self.store, name, hint=i < 3) for i, name in enumerate(missing)]
        raise_problems(f"{annotations.path}, subset {' + '.join(splits)}", problems)
        if not recordings:
            raise EventideError(
                f"{annotations.path}: none of the recordings in subset {' + '.join(splits)} has features in "
                f"{', '.join(self.store.folders)} (dataset.feat_folder, file_prefix, file_ext)"
            )
        return recordings


def feature_store(settings: DatasetConfig) -> FeatureStore:
    """The feature store that a configuration describes."""
    return FeatureStore(settings.feat_folder, settings.file_prefix, settings.file_ext, settings.input_dim)


def has_fixed_length(settings: DatasetConfig) -> bool:
    """Whether every recording has one number of vectors, whatever its duration (the published ActivityNet recipe)."""
    return settings.force_upsampling or settings.feat_stride <= 0


def makes_proposals(settings: DatasetConfig, annotations: AnnotationSet) -> bool:
    """Whether all classes are learnt as one: one class is asked for, and the annotations have more."""
    return settings.num_classes == 1 and len(annotations.labels) > 1


def class_labels(settings: DatasetConfig, annotations: AnnotationSet, *, keep_all: bool = False) -> list[str]:
    """Names of the model's classes, one per label id; a class that the annotations lack is named by its number.

    Proposals have the one class "proposal", unless `keep_all` (classes come from external scores). Label ids beyond
    `num_classes` are an `EventideError`.
    """
    names = annotations.labels
    if makes_proposals(settings, annotations):
        return list(names) if keep_all else ["proposal"]
    if len(names) > settings.num_classes:
        raise EventideError(f"{annotations.path}: {too_many_labels(settings, annotations)}")
    return names + [str(index) for index in range(len(names), settings.num_classes)]


def too_many_labels(settings: DatasetConfig, annotations: AnnotationSet) -> str:
    """What to say when label ids do not fit into `num_classes`."""
    beyond = [f"{name} ({index})" for index, name in enumerate(annotations.labels) if index >= settings.num_classes]
    more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
    return (
        f"label ids go up to {len(annotations.labels) - 1}, but dataset.num_classes is {settings.num_classes}: "
        f"no class for {', '.join(beyond[:5])}{more}; set dataset.num_classes to {len(annotations.labels)}"
    )


def rate_problem(settings: DatasetConfig, recording: Recording) -> str:
    """What keeps a recording's times from being placed on a grid; empty when nothing does."""
    if settings.default_fps is None and recording.fps is None:
        return f'recording {recording.id!r}: no "fps" in the annotations and no dataset.default_fps'
    if settings.feat_stride <= 0 and recording.duration is None:
        return f'recording {recording.id!r}: no "duration", which features of fixed length (feat_stride <= 0) need'
    return ""


def missing_problem(store: FeatureStore, recording_id: str, *, hint: bool = True) -> str:
    """What to say about a recording without features."""
    files = ", ".join(str(source) for source in store.missing(recording_id))
    guess = store.missing_hint(recording_id) if hint else ""
    return f"recording {recording_id!r}: no feature file {files}{f' ({guess})' if guess else ''}"


def grid_length(settings: DatasetConfig, rows: int) -> int:
    """Vectors on the model's grid of a recording with `rows` stored feature vectors."""
    if settings.force_upsampling:
        return settings.max_seq_len or rows
    return -(-rows // settings.downsample_rate)


def timeline_of(settings: DatasetConfig, recording: Recording, rows: int) -> Timeline:
    """How the grid of a recording with `rows` stored feature vectors maps to seconds.

    Where recordings are resized, a grid step is the covered time divided by the new length; features of fixed length
    cover the whole duration. In both cases a vector stands for the middle of its step.
    """
    fps = settings.default_fps or recording.fps
    if fps is None:
        raise EventideError(rate_problem(settings, recording))
    if settings.feat_stride <= 0:
        if recording.duration is None:
            raise EventideError(rate_problem(settings, recording))
        stride = recording.duration * fps / grid_length(settings, rows)
        return Timeline(fps, stride, stride, recording.duration)
    if settings.force_upsampling:
        stride = ((rows - 1) * settings.feat_stride + settings.num_frames) / grid_length(settings, rows)
        return Timeline(fps, stride, stride, recording.duration)
    return Timeline(fps, settings.feat_stride * settings.downsample_rate, settings.num_frames, recording.duration)


def resize(features: torch.Tensor, length: int) -> torch.Tensor:
    """Features (T, C) resampled to `length` vectors by linear interpolation, ends not aligned (as published)."""
    if len(features) == length:
        return features
    channels_first = features.T.unsqueeze(0)
    resized = torch.nn.functional.interpolate(channels_first, size=length, mode="linear", align_corners=False)
    return resized.squeeze(0).T
