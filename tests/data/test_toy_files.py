"""Toy data sets on disk: in every layout they pass the checks, and nothing else in their folder is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eventide.config import Config
from eventide.config_loading import config_to_yaml, load_config
from eventide.data.checks import check_dataset
from eventide.data.dataset import EventDataset
from eventide.data.formats import read_header, read_rows
from eventide.data.toy import plan_toy
from eventide.data.toy_files import ANNOTATIONS, CONFIG, LIST, RUNS, ToyLayout, write_toy
from eventide.data.writing import write_array
from eventide.evaluation.external_scores import read_external_scores
from eventide.types import EventideError, UsageError

ENDINGS = (".npy", ".npz", ".h5", ".hdf5", ".pt", ".safetensors")
Layout = dict[str, Any]
BASE: Layout = {
    "json_file": "/nowhere/annotations.json",
    "feat_folder": "/nowhere/features",
    "num_classes": 4,
    "input_dim": 12,
    "feat_stride": 4.0,
    "num_frames": 16.0,
    "max_seq_len": 64,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    **{ending: {"dataset": {"file_ext": ending}} for ending in ENDINGS},
    "prefix": {"dataset": {"file_prefix": "v_"}},
    "one HDF5 file": {"dataset": {"feat_folder": "sets/all.h5", "file_prefix": "v_"}},
    "two folders, one number": {"dataset": {"feat_folder": ["a/rgb", "b/flow"], "input_dim": 13}},
    "two folders of one name": {"dataset": {"feat_folder": ["a/features", "b/features"]}},
    "streams": {
        "dataset": {"feat_folder": ["x/a", "x/b"], "input_dim": [4, 8]},
        "model": {"backbone": {"n_embd": [8, 8]}},
    },
    "streams in one folder": {"dataset": {"input_dim": [4, 8]}, "model": {"backbone": {"n_embd": [8, 8]}}},
    "a folder and a file": {"dataset": {"feat_folder": ["x/a", "x/b.hdf5"], "input_dim": 12}},
    "no paths": {"dataset": {"feat_folder": "", "json_file": ""}},
    "names that are taken": {"dataset": {"feat_folder": ["runs", "x/CONFIG.YAML", "..", "toy.json"]}},
    "default rate": {"dataset": {"default_fps": 15.0}},
    "resized": {"dataset": {"force_upsampling": True}},
    "covering the recording": {"dataset": {"feat_stride": -1.0}},
    "every third vector": {"dataset": {"downsample_rate": 3}},
    "proposals": {"dataset": {"num_classes": 1}, "test_cfg": {"ext_score_file": "x/annotations.json"}},
    "proposals, npz": {"dataset": {"num_classes": 1}, "test_cfg": {"ext_score_file": "x/s.npz"}},
    "fused classes": {"test_cfg": {"ext_score_file": "scores.JSON"}},
    "splits": {"train_split": ["Train", "extra"], "val_split": ["val", "test"]},
    "points": {"model": {"meta_arch": "SnapFormer"}},
    "points of widths": {"model": {"meta_arch": "SnapFormer", "heatmap": {"width": {"snap": 0.2, "click": 1.0}}}},
    "points, resized": {"dataset": {"force_upsampling": True}, "model": {"meta_arch": "SnapFormer"}},
    "points, every third vector": {"dataset": {"downsample_rate": 3}, "model": {"meta_arch": "SnapFormer"}},
    "labels of gaps": {"test_cfg": {"min_gap": {"jump": 2.0}}},
    "excluded": {"train_cfg": {"head_empty_cls": [1]}},
}


def config_of(layout: dict[str, Any]) -> Config:
    return Config.model_validate({**layout, "dataset": {**BASE, **layout.get("dataset", {})}})


def write(folder: Path, layout: dict[str, Any], recordings: int | None = None, **options: Any) -> Path:
    """Write a data set for a layout to folder/toy, for the configuration folder/c.yaml."""
    config = config_of(layout)
    path = folder / "c.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    seed = options.pop("seed", 0)
    plan = plan_toy(config.resolve(), recordings, seed)
    write_toy(plan, ToyLayout.of(config), folder / "toy", path, options.pop("changes", {}), **options)
    return folder / "toy"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_data_sets_pass_the_checks(tmp_path: Path, layout: dict[str, Any]) -> None:
    toy = write(tmp_path, layout)
    config = load_config(toy / CONFIG)
    report = check_dataset(config)
    assert (report.problems, report.warnings) == ([], [])
    assert [item.recordings for item in report.splits] == [6, 3]
    sample = EventDataset(config, config.train_split, training=True).sample(0)
    assert sample.features.shape[1] == int(np.sum(config.dataset.input_dim))
    if path := config.test_cfg.ext_score_file:
        scores = read_external_scores(path)
        assert len(scores) == 9
        assert {len(row) for row in scores.values()} == {len(report.classes)}
    before, given = config_of(layout).resolve().model_dump(), config.model_dump()
    for section, key in (("dataset", "json_file"), ("dataset", "feat_folder"), ("test_cfg", "ext_score_file")):
        assert str(tmp_path) in str(given[section].pop(key) or tmp_path)
        before[section].pop(key)
    assert given.pop("output_folder") == str(toy / RUNS)
    before.pop("output_folder")
    assert given == before


def test_points_are_written_as_times(tmp_path: Path) -> None:
    toy = write(tmp_path, LAYOUTS["points"])
    database = json.loads((toy / ANNOTATIONS).read_text(encoding="utf-8"))["database"]
    events = [event for item in database.values() for event in item["annotations"]]
    assert len(events) > 40
    assert all(set(event) == {"time", "label", "label_id"} for event in events)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("rows", [1, 5])
def test_written_arrays_are_read_back(tmp_path: Path, ending: str, rows: int) -> None:
    array = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float16)
    path = tmp_path / "new" / f"a{ending}"
    write_array(path, array)
    assert read_header(path) == ((rows, 3), "float16")
    np.testing.assert_array_equal(read_rows(path, 0, rows), array.astype(np.float32))
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_format_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(EventideError, match=r"a\.mat: unknown feature format '\.mat'"):
        write_array(tmp_path / "a.mat", np.zeros((1, 1), np.float16))


def test_folders_disagree_by_a_vector_as_extractors_do(tmp_path: Path) -> None:
    toy = write(tmp_path, {"dataset": {"feat_folder": ["a", "b"]}})
    lengths = [[read_header(path).shape[0] for path in sorted((toy / name).iterdir())] for name in "ab"]
    assert {b - a for a, b in zip(*lengths, strict=True)} == {0, 1}


def test_fewer_channels_than_folders() -> None:
    config = config_of({"dataset": {"feat_folder": ["a", "b", "c"], "input_dim": 2}})
    with pytest.raises(UsageError, match="2 channels cannot be shared among 3 feature folders"):
        ToyLayout.of(config)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors", ".pt"])
def test_the_same_bytes_twice(tmp_path: Path, ending: str) -> None:
    layout = {"dataset": {"file_ext": ending}}
    first = content(write(tmp_path, layout))
    assert content(write(tmp_path, layout)) == first
    assert set(json.loads(first[LIST])["files"]) == set(first) - {LIST}
    assert content(write(tmp_path, layout, seed=1)) != first


def test_changes_are_kept_in_the_configuration(tmp_path: Path) -> None:
    changes = {"opt": {"epochs": 7}, "dataset": {"max_seq_len": 32, "json_file": "elsewhere"}, "output_folder": "x"}
    toy = write(tmp_path, {}, changes=changes)
    config = load_config(toy / CONFIG)
    assert (config.opt.epochs, config.dataset.max_seq_len) == (7, 32)
    assert config.dataset.json_file == str(toy / ANNOTATIONS)
    assert config.output_folder == str(toy / RUNS)


def test_paths_that_look_like_variables(tmp_path: Path) -> None:
    folder = tmp_path / "${HOME} #1: a"
    folder.mkdir()
    assert check_dataset(load_config(write(folder, {}) / CONFIG)).problems == []


def test_an_earlier_data_set_is_replaced_and_what_it_had_more_is_removed(tmp_path: Path) -> None:
    toy = write(tmp_path, {"dataset": {"feat_folder": ["a", "b"], "file_ext": ".npz"}}, recordings=6)
    (toy / RUNS / "one").mkdir(parents=True)
    (toy / RUNS / "one" / "train.log").write_text("kept", encoding="utf-8")
    write(tmp_path, {"dataset": {"feat_folder": "a"}}, recordings=3)
    assert {path.name for path in toy.iterdir()} == {"a", ANNOTATIONS, CONFIG, LIST, RUNS}
    assert {path.name for path in (toy / "a").iterdir()} == {f"toy_{index:03d}.npy" for index in range(3)}
    assert (toy / RUNS / "one" / "train.log").read_text() == "kept"


def _stray(toy: Path) -> None:
    (toy / "mine.txt").write_text("mine", encoding="utf-8")


def _stray_feature(toy: Path) -> None:
    (toy / "features" / "mine.npy").write_bytes(b"mine")


def _edited(toy: Path) -> None:
    (toy / CONFIG).write_text("seed: 1\n", encoding="utf-8")


def _other_list(toy: Path) -> None:
    (toy / LIST).write_text('{"files": {}}', encoding="utf-8")


def _broken_list(toy: Path) -> None:
    (toy / LIST).write_text("{", encoding="utf-8")


def _link(toy: Path) -> None:
    (toy / ANNOTATIONS).unlink()
    (toy.parent / "mine.json").write_text("mine", encoding="utf-8")
    (toy / ANNOTATIONS).symlink_to(toy.parent / "mine.json")


DISTURBANCES: list[tuple[str, Callable[[Path], None], str]] = [
    ("a file of the user", _stray, r"mine\.txt"),
    ("a file among the features", _stray_feature, r"features/mine\.npy"),
    ("an edited configuration", _edited, r"config\.yaml"),
    (
        "another file in place of the list",
        _other_list,
        r"annotations\.json, config\.yaml, features/",
    ),
    ("a broken list", _broken_list, r"annotations\.json"),
    ("a link", _link, r"annotations\.json"),
]


@pytest.mark.parametrize(("label", "disturb", "named"), DISTURBANCES, ids=[item[0] for item in DISTURBANCES])
def test_a_folder_that_holds_something_else(
    tmp_path: Path, label: str, disturb: Callable[[Path], None], named: str
) -> None:
    toy = write(tmp_path, {})
    disturb(toy)
    before = content(toy)
    with pytest.raises(UsageError, match=rf"were not generated, or were changed since: {named}"):
        write(tmp_path, {}, seed=1)
    assert content(toy) == before
    write(tmp_path, {}, seed=1, force=True)
    after = content(toy)
    assert check_dataset(load_config(toy / CONFIG)).problems == []
    for name in ("mine.txt", "features/mine.npy"):
        assert after.get(name) == before.get(name)
    if label == "a link":
        assert (tmp_path / "mine.json").read_text() == "mine"


def test_an_edited_file_that_is_no_longer_made_stays(tmp_path: Path) -> None:
    toy = write(tmp_path, {"dataset": {"file_ext": ".npz"}})
    kept = toy / "features" / "toy_000.npz"
    kept.write_bytes(b"mine")
    write(tmp_path, {}, force=True)
    assert kept.read_bytes() == b"mine"
    assert not (toy / "features" / "toy_001.npz").exists()


def test_a_run_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, {}, progress=fail)
    assert not (tmp_path / "toy" / CONFIG).exists()
    (tmp_path / "toy" / "features" / ".toy_004.npy.x7f3.tmp").write_bytes(b"half")  # as a killed writer leaves it
    toy = write(tmp_path, {}, seed=1)
    assert check_dataset(load_config(toy / CONFIG)).problems == []


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "toy" / "features").mkdir(parents=True)
    write(tmp_path, {})


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "toy").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="toy is a file; give a folder"):
        write(tmp_path, {}, force=True)
    assert (tmp_path / "toy").read_text() == "mine"


def test_a_configuration_is_never_its_own_base(tmp_path: Path) -> None:
    toy = write(tmp_path, {})
    config = load_config(toy / CONFIG)
    with pytest.raises(UsageError, match="give another folder"):
        write_toy(plan_toy(config), ToyLayout.of(config), toy, toy / CONFIG, {}, force=True)
    other = tmp_path / "second"
    write_toy(plan_toy(config), ToyLayout.of(config), other, toy / CONFIG, {})  # a toy of a toy is fine
    assert check_dataset(load_config(other / CONFIG)).problems == []
