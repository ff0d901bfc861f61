"""A toy data set on disk: annotations, feature files, external scores, and a configuration that names them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eventide.config import Config, DatasetConfig, sum_of
from eventide.config_yaml import dump_yaml
from eventide.data.features import HDF5_ENDINGS
from eventide.data.owned_folder import OwnedFolder
from eventide.data.toy import ToyPlan, ToyRecording, external_scores, make_toy_recording
from eventide.data.writing import write_array, writing_members
from eventide.ops.files import write_file, write_text
from eventide.types import UsageError

ANNOTATIONS, CONFIG, LIST, RUNS = "annotations.json", "config.yaml", "toy.json", "runs"
KIND = "eventide-toy-1"
Progress = Callable[[int, int], None]  # recordings done, recordings in all
Put = Callable[[str, np.ndarray], None]


@dataclass(frozen=True)
class ToyLayout:
    """Where everything lies, relative to the folder of the toy data set."""

    features: tuple[str, ...]  # feature folders (or HDF5 files of many recordings), as many as the configuration has
    channels: tuple[int, ...]  # of each
    scores: str | None  # external scores

    @classmethod
    def of(cls, config: Config) -> ToyLayout:
        """The layout that a configuration asks for, under the last parts of its own paths.

        Raises:
            UsageError: fewer channels than feature folders.
        """
        settings = config.dataset
        folders = [settings.feat_folder] if isinstance(settings.feat_folder, str) else settings.feat_folder
        taken = {ANNOTATIONS, CONFIG, LIST, RUNS}
        features = tuple(_free_name(folder, "features", taken) for folder in folders)
        score_file = config.test_cfg.ext_score_file
        scores = _free_name(score_file, "scores.json", taken) if score_file else None
        return cls(features, tuple(_channels(settings.input_dim, len(folders))), scores)

    def files(self, plan: ToyPlan) -> list[str]:
        """Relative paths of all files of a data set."""
        names = [plan.dataset.file_prefix + name + plan.dataset.file_ext for name in plan.ids]
        found = [ANNOTATIONS, CONFIG, *([self.scores] if self.scores else [])]
        for folder in self.features:
            found += [folder] if _is_hdf5(folder) else [f"{folder}/{name}" for name in names]
        return found


def write_toy(
    plan: ToyPlan,
    layout: ToyLayout,
    folder: Path,
    config_path: Path,
    changes: Mapping[str, Any],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[ToyRecording]:
    """Write a toy data set; returns its recordings without features.

    `config.yaml` inherits from `config_path`; `changes` are more keys for it, in nested sections.

    Raises:
        UsageError: the folder holds something else (without `force`), or cannot be written.
    """
    target = folder / CONFIG
    if os.path.realpath(target) == os.path.realpath(config_path):
        raise UsageError(f"{config_path} would be replaced by the configuration of the data set; give another folder")
    owned = OwnedFolder(folder, LIST, KIND, RUNS)
    files = layout.files(plan)
    owned.open(files, force=force)
    recordings = _write_features(plan, layout, folder, progress)
    write_text(folder / ANNOTATIONS, json.dumps(annotations_of(plan, recordings), indent=1) + "\n")
    if layout.scores:
        _write_scores(folder / layout.scores, plan, recordings)
    write_text(target, config_text(layout, folder, config_path, changes))
    owned.close(files)
    return recordings


def annotations_of(plan: ToyPlan, recordings: Sequence[ToyRecording]) -> dict[str, Any]:
    """The annotation file of recordings."""
    labels = plan.labels

    def when(start: float, end: float) -> dict[str, Any]:
        return {"time": start} if plan.dataset.events == "points" else {"segment": [start, end]}

    database = {
        name: {
            "subset": subset,
            "duration": recording.duration,
            "fps": recording.fps,
            "annotations": [
                {**when(*segment), "label": labels[label_id], "label_id": label_id}
                for segment, label_id in zip(recording.segments.tolist(), recording.label_ids.tolist(), strict=True)
            ],
        }
        for name, subset, recording in zip(plan.ids, plan.subsets, recordings, strict=True)
    }
    return {"version": KIND, "database": database}


def config_text(layout: ToyLayout, folder: Path, config_path: Path, changes: Mapping[str, Any]) -> str:
    """The configuration of a toy data set. Its paths are absolute, so that it works from everywhere."""
    here = Path(os.path.abspath(folder))
    paths = [str(here / name) for name in layout.features]
    values: dict[str, Any] = {"base": os.path.abspath(config_path), **changes, "output_folder": str(here / RUNS)}
    data = {"json_file": str(here / ANNOTATIONS), "feat_folder": paths[0] if len(paths) == 1 else paths}
    values["dataset"] = {**(changes.get("dataset") or {}), **data}
    if layout.scores:
        values["test_cfg"] = {**(changes.get("test_cfg") or {}), "ext_score_file": str(here / layout.scores)}
    return f"# A generated data set (eventide make-toy) for the configuration that is named here.\n{dump_yaml(values)}"


def _write_features(plan: ToyPlan, layout: ToyLayout, folder: Path, progress: Progress | None) -> list[ToyRecording]:
    """Write the features of all recordings; returns the recordings without them."""
    made = []
    edges = np.cumsum([0, *layout.channels])
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(folder / name, plan.dataset)) for name in layout.features]
        for index, name in enumerate(plan.ids):
            recording = make_toy_recording(plan, index)
            for number, put in enumerate(writers):
                part = recording.features[:, edges[number] : edges[number + 1]]
                if number and (number + index) % 2:  # feature extractors differ by a vector about the end
                    part = np.concatenate([part, part[-1:]])
                put(plan.dataset.file_prefix + name, np.ascontiguousarray(part))
            made.append(replace(recording, features=recording.features[:0]))
            if progress:
                progress(index + 1, len(plan.ids))
    return made


@contextmanager
def _writer(path: Path, settings: DatasetConfig) -> Iterator[Put]:
    """Takes file names without ending, and arrays (T, C), for a feature folder or an HDF5 file."""
    if _is_hdf5(path.name):
        with writing_members(path) as put:
            yield put
    else:
        yield lambda name, array: write_array(path / (name + settings.file_ext), array)


def _write_scores(path: Path, plan: ToyPlan, recordings: Sequence[ToyRecording]) -> None:
    """External scores as .npz, or as JSON in the form of the file that is published for ActivityNet."""
    scores = dict(zip(plan.ids, external_scores(plan, recordings), strict=True))
    if path.suffix.lower() == ".npz":
        arrays = {name: np.asarray(row) for name, row in scores.items()}
        write_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
    else:
        write_text(path, json.dumps({"class": plan.labels, "results": scores}) + "\n")


def _free_name(path: str, fallback: str, taken: set[str]) -> str:
    """The last part of a path, with a number where another file of the data set has that name already."""
    name = Path(path).name
    name = fallback if name in ("", "..") else name
    stem, ending = os.path.splitext(name)
    number = 2
    while name.lower() in {other.lower() for other in taken}:  # some file systems ignore case
        name, number = f"{stem}_{number}{ending}", number + 1
    taken.add(name)
    return name


def _channels(input_dim: int | Sequence[int], folders: int) -> list[int]:
    """Channels of each feature folder: as listed where the numbers match, else shares as equal as can be."""
    if not isinstance(input_dim, int) and len(input_dim) == folders:
        return list(input_dim)
    total = sum_of(input_dim if isinstance(input_dim, int) else list(input_dim))
    if total < folders:
        raise UsageError(f"dataset.input_dim: {total} channels cannot be shared among {folders} feature folders")
    return [total // folders + (number < total % folders) for number in range(folders)]


def _is_hdf5(name: str) -> bool:
    return name.lower().endswith(HDF5_ENDINGS)
