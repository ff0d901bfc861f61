"""The section `dataset` of a recommended configuration, and what follows from annotations and features alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventide.data.feature_survey import FeatureFacts
from eventide.engine.recommend.situation import Choice, Data, Situation

NOT_GIVEN = "not given:"


def data_choices(situation: Situation) -> Iterator[Choice]:
    """Where the data lies and what it looks like; placeholders that say so where nothing was given."""
    data = situation.data
    if data.annotations is None:
        yield Choice("dataset.json_file", "data/annotations.json", f"{NOT_GIVEN} put your annotation file here")
    else:
        yield Choice("dataset.json_file", data.annotations, "--annotations")
    yield from _split_choices(data)
    yield from _feature_choices(data)
    yield from _class_choices(data)
    yield from _grid_choices(data)
    if situation.events == "points" and data.survey is not None and len(data.survey.durations):
        reason = f"{len(data.survey.durations)} annotated segments count as the moment in their middle"
        yield Choice("dataset.point_position", "centre", reason)


def _split_choices(data: Data) -> Iterator[Choice]:
    found = data.survey
    if found is None:
        return
    yield Choice("train_split", list(found.train_split), f"{len(found.recordings)} recordings")
    reason = "to evaluate on"
    if set(found.val_split) == set(found.train_split):
        reason = "there is no other subset: scores will say nothing about new recordings"
    yield Choice("val_split", list(found.val_split), reason)


def _feature_choices(data: Data) -> Iterator[Choice]:
    if not data.features:
        yield Choice("dataset.feat_folder", "data/features", f"{NOT_GIVEN} put the folder of your features here")
        channels = data.input_dim
        reason = "--input-dim" if channels else f"{NOT_GIVEN} put the channels of your feature vectors here"
        yield Choice("dataset.input_dim", channels or 2048, reason)
        return
    first = data.features[0]
    folders: Any = [item.folder for item in data.features]
    yield Choice("dataset.feat_folder", folders if len(folders) > 1 else folders[0], "--features")
    if first.prefix:
        yield Choice("dataset.file_prefix", first.prefix, f"as in {first.first}")
    yield Choice("dataset.file_ext", first.ending, f"as in {first.first}")
    if data.input_dim is not None:
        yield Choice("dataset.input_dim", data.input_dim, "--input-dim")
        return
    yield Choice("dataset.input_dim", sum(item.channels for item in data.features), channel_reason(data.features))


def channel_reason(features: tuple[FeatureFacts, ...]) -> str:
    """Where the number of channels comes from."""
    if len(features) == 1:
        return f"channels of {features[0].first}"
    return " + ".join(str(item.channels) for item in features) + f" channels, as in {features[0].first}"


def _class_choices(data: Data) -> Iterator[Choice]:
    found = data.survey
    if data.classes is not None:
        yield Choice("dataset.num_classes", data.classes, "--classes")
    elif found is None:
        yield Choice("dataset.num_classes", 1, f"{NOT_GIVEN} put the number of your classes here")
    else:
        yield Choice("dataset.num_classes", len(found.labels), "labels in the annotations")
    if found is None:
        return
    count = data.classes or len(found.labels)
    empty = [*found.empty_classes, *range(len(found.labels), count)]
    if empty and len(empty) < count and count >= len(found.labels):
        names = ", ".join(found.labels[index] if index < len(found.labels) else str(index) for index in empty[:5])
        more = ", ..." if len(empty) > 5 else ""
        yield Choice("train_cfg.head_empty_cls", empty, f"no training example of {names}{more}: never predicted")


def _grid_choices(data: Data) -> Iterator[Choice]:
    grid = data.grid
    if grid is None:
        reason = f"{NOT_GIVEN} put the frames from one vector to the next here"
        yield Choice("dataset.feat_stride", 16.0, reason)
        frames_reason = "--num-frames" if data.num_frames else f"{NOT_GIVEN} put the frames that one vector covers here"
        yield Choice("dataset.num_frames", data.num_frames or 16.0, frames_reason)
        if data.fps is not None:
            yield Choice("dataset.default_fps", data.fps, "--fps")
        return
    yield Choice("dataset.feat_stride", grid.feat_stride, grid.because[0])
    yield Choice("dataset.num_frames", grid.num_frames, grid.because[1])
    if grid.fps is None and data.survey is None:
        return  # the annotations, which nobody has named yet, may have it
    if grid.fps is None or data.survey is None or not data.survey.has_rates or data.survey.fps != grid.fps:
        yield Choice("dataset.default_fps", grid.fps, grid.because[2])
