"""Loading: inheritance, overrides, resolution, every problem at once with its line, round trip."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from eventide.config import Config, default_ranges
from eventide.config_loading import config_to_yaml, load_config, load_config_with_origins, override_config
from eventide.config_yaml import ConfigError
from eventide.types import UsageError

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "configs").rglob("*.yaml"))


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path, *overrides: str) -> list[str]:
    """The lines of the error that loading gives, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


# --- resolution ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "text", "expected"),
    [
        ("nothing given", "dataset_name: x", {"dataset.max_seq_len": 2304, "model.backbone.max_len": 2304}),
        ("max_seq_len", "dataset: {max_seq_len: 100}", {"model.backbone.max_len": 100}),
        ("max_len", "model: {backbone: {max_len: 8192}}", {"dataset.max_seq_len": 8192}),
        ("both alike", "{dataset: {max_seq_len: 9}, model: {backbone: {max_len: 9}}}", {"dataset.max_seq_len": 9}),
        ("width", "model: {backbone: {n_embd: 64}}", {"model.fpn_dim": 64, "model.head_dim": 64}),
        (
            "streams",
            "{dataset: {input_dim: [3, 4]}, model: {backbone: {n_embd: [24, 40]}}}",
            {"model.fpn_dim": 64, "model.head_dim": 64},
        ),
        ("head only", "model: {head_dim: 32}", {"model.fpn_dim": 512, "model.head_dim": 32}),
        ("window per level", "model: {backbone: {mha_win_size: 9}}", {"model.backbone.mha_win_size": [9] * 6}),
        (
            "levels",
            "model: {backbone: {arch: [2, 2, 2]}}",
            {
                "model.backbone.mha_win_size": [-1] * 3,
                "model.regression_range": [(0, 4), (4, 8), (8, 10000)],
            },
        ),
        ("start level", "model: {fpn_start_level: 4}", {"model.regression_range": [(0, 4), (4, 10000)]}),
        ("one level", "model: {backbone: {arch: [1, 1, 0]}}", {"model.regression_range": [(0, 10000)]}),
        ("v2 keys stay null under v1", "dataset_name: x", {"model.backbone.use_rope": None}),
    ],
)
def test_resolution(tmp_path: Path, label: str, text: str, expected: dict[str, Any]) -> None:
    config = load_config(write(tmp_path, text))
    for key, value in expected.items():
        found: Any = config
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value, key


def test_default_ranges_double_and_are_open_at_the_end() -> None:
    assert default_ranges(6) == [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000)]


def test_resolving_twice_changes_nothing() -> None:
    config = Config().resolve()
    assert config.resolve() == config


def test_resolving_leaves_the_original_alone() -> None:
    config = Config()
    config.resolve()
    assert config == Config()


def test_v2_switches_default_to_on_under_v2() -> None:
    config = Config()
    config.model.backbone_type = "convTransformerv2"
    config.model.backbone.use_rope = False
    backbone = config.resolve().model.backbone
    assert (backbone.use_rope, backbone.use_flash_attn, backbone.use_swiglu) == (False, True, True)
    assert (backbone.use_rms_norm, backbone.n_kv_head) == (True, backbone.n_head)


# --- base files ---------------------------------------------------------------------------------------------------


def test_base_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, "opt: {epochs: 7, learning_rate: 0.5}\nseed: 3", "common/base.yaml")
    write(tmp_path, "base: ../common/base.yaml\nopt: {epochs: 8}", "runs/middle.yaml")
    config = load_config(write(tmp_path, "base: runs/middle.yaml\nseed: 4"))
    assert (config.opt.epochs, config.opt.learning_rate, config.seed) == (8, 0.5, 4)


def test_lists_are_replaced_not_joined(tmp_path: Path) -> None:
    write(tmp_path, "train_split: [a, b]", "base.yaml")
    assert load_config(write(tmp_path, "base: base.yaml\ntrain_split: [c]")).train_split == ["c"]


def test_a_file_that_only_names_its_base_is_enough(tmp_path: Path) -> None:
    write(tmp_path, "seed: 5", "base.yaml")
    assert load_config(write(tmp_path, "base: base.yaml")).seed == 5


@pytest.mark.parametrize(
    ("label", "files", "message"),
    [
        ("itself", {"c.yaml": "base: c.yaml"}, "c.yaml:1: base: c.yaml inherits from itself"),
        (
            "cycle of three",
            {"c.yaml": "base: a.yaml", "a.yaml": "seed: 1\nbase: b.yaml", "b.yaml": "base: c.yaml"},
            "b.yaml:1: base: c.yaml inherits from itself",
        ),
        ("missing", {"c.yaml": "seed: 1\nbase: no.yaml"}, "c.yaml:2: base: no.yaml: no such configuration file"),
        ("not a path", {"c.yaml": "base: [a.yaml]"}, "c.yaml:1: base: must be the path of a configuration file"),
        ("null", {"c.yaml": "base:"}, "c.yaml:1: base: must be the path of a configuration file, got null"),
        ("wrong inside", {"c.yaml": "base: b.yaml", "b.yaml": "seed: x"}, "b.yaml:1: seed: must be a whole number"),
        ("broken", {"c.yaml": "base: b.yaml", "b.yaml": "a: ["}, "b.yaml:1: not valid YAML"),
        ("folder", {"c.yaml": "base: .", "b.yaml": ""}, "is a folder"),
    ],
)
def test_wrong_base(tmp_path: Path, label: str, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        write(tmp_path, text, name)
    assert message in problems_of(tmp_path / "c.yaml")[0]


def test_a_chain_without_end_is_stopped(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, f"base: c{number + 1}.yaml", f"c{number}.yaml")
    assert "more than 20 files" in problems_of(tmp_path / "c0.yaml")[0]


# --- overrides ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("opt.learning_rate=1e-2", ("opt", "learning_rate"), 0.01),
        ("opt.learning_rate=1", ("opt", "learning_rate"), 1.0),
        ("train_split=[a, b]", ("train_split",), ["a", "b"]),
        ("dataset.crop_ratio=null", ("dataset", "crop_ratio"), None),
        ("dataset.crop_ratio=", ("dataset", "crop_ratio"), None),
        ("dataset.json_file=a=b.json", ("dataset", "json_file"), "a=b.json"),
        ("test_cfg.chunk={length: 9, overlap: 2}", ("test_cfg", "chunk", "overlap"), 2),
        ("test_cfg.chunk.length=9", ("test_cfg", "chunk", "length"), 9),
        ("dataset.json_file=${WHERE}/a.json", ("dataset", "json_file"), "here/a.json"),
    ],
)
def test_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, key: tuple[str, ...], value: Any
) -> None:
    monkeypatch.setenv("WHERE", "here")
    found: Any = load_config(write(tmp_path, "dataset: {crop_ratio: [0.9, 1.0]}"), [override])
    for part in key:
        found = getattr(found, part)
    assert found == value


def test_later_overrides_win_and_merge_into_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "opt: {epochs: 7, warmup_epochs: 2}")
    config = load_config(path, ["opt.epochs=8", "opt={epochs: 9}"])
    assert (config.opt.epochs, config.opt.warmup_epochs) == (9, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("opt.learing_rate=1", "--set: opt.learing_rate: unknown key; did you mean opt.learning_rate?"),
        ("opt.epochs", "must have the form section.key=value"),
        ("=3", "must have the form"),
        ("opt..epochs=3", "must have the form"),
        ("opt.epochs=[1", "not valid YAML"),
        ("opt.epochs=many", "--set: opt.epochs: must be a whole number, at least 1, got many"),
        ("opt=3", "--set: opt: must be a section of keys, got 3"),
        ("opt.epochs.more=3", "--set: opt.epochs: must be a whole number, at least 1, got {more: 3}"),
        ("base=other.yaml", "can only be given in a file"),
        ("model.n_mha_win_size=9", "ActionFormer's name; here it is model.backbone.mha_win_size"),
        ("dataset.json_file=${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
        ("opt.early_stop_epochs=3", "--set: opt.early_stop_epochs: not available yet"),
    ],
)
def test_wrong_override(tmp_path: Path, override: str, message: str) -> None:
    assert message in problems_of(write(tmp_path, "seed: 1"), override)[0]


def test_overriding_a_configuration_at_hand() -> None:
    config = Config().resolve()
    assert override_config(config, [], "model") == config
    changed = override_config(config, ["test_cfg.max_seg_num=7"], "model")
    assert changed.test_cfg.max_seg_num == 7
    assert changed.model_copy(update={"test_cfg": config.test_cfg}) == config
    with pytest.raises(ConfigError, match=r"^--set: test_cfg\.max_seg: unknown key; did you mean test_cfg.max_seg_num"):
        override_config(config, ["test_cfg.max_seg=7"], "model")
    with pytest.raises(ConfigError, match=r"^--set: model.backbone.arch: has 6 rows|regression_range: has 6 rows"):
        override_config(config, ["model.backbone={arch: [2, 2, 4], mha_win_size: -1}"], "best.safetensors")


# --- problems -----------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "opt:\n  epochs: 0\n", "base.yaml")
    path = write(
        tmp_path,
        "base: base.yaml\n"
        "opt:\n  learing_rate: 1\n  schedule_steps: [3]\n"
        "train_cfg:\n  accum_steps: 0\nmodel:\n  backbone:\n    n_head: 5\n    use_rope: true\n"
        "dataset:\n  feat_stride: wide\n  feat_stride: 4\n  num_classes: true\n",
    )
    found = problems_of(path, "seed=-1")
    starts = [line.split(" ")[0] + " " + line.split(" ")[1] for line in found]
    assert starts == [
        "base.yaml:2: opt.epochs:",
        "c.yaml:3: opt.learing_rate:",
        "c.yaml:4: opt.schedule_steps:",
        "c.yaml:6: train_cfg.accum_steps:",
        "c.yaml:9: model.backbone.n_head:",
        "c.yaml:10: model.backbone.use_rope:",
        "c.yaml:12: dataset.feat_stride:",
        "c.yaml:13: dataset.feat_stride:",
        "c.yaml:14: dataset.num_classes:",
        "--set: seed:",
    ]


def test_a_config_error_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        load_config(write(tmp_path, "seed: x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("opt: {epochs: true}", "opt.epochs: must be a whole number, at least 1, got true"),
        ("opt: {epochs: '3'}", "opt.epochs: must be a whole number, at least 1, got '3'"),
        ("opt: {epochs: 3.0}", "opt.epochs: must be a whole number, at least 1, got 3.0"),
        ("opt: {learning_rate: fast}", "opt.learning_rate: must be a number, greater than 0, got fast"),
        ("opt: {learning_rate: .inf}", "opt.learning_rate: must be a number, greater than 0, got .inf"),
        ("opt: {learning_rate: .nan}", "opt.learning_rate: must be a number, greater than 0, got .nan"),
        ("opt: {warmup: 1}", "opt.warmup: must be true or false, got 1"),
        ("opt: {type: Adam}", "opt.type: must be one of AdamW, SGD, got Adam"),
        ("opt: []", "opt: must be a section of keys, got []"),
        ("train_split: training", "train_split: must be a list of texts, not empty, got training"),
        ("train_split: []", "train_split: must be a list of texts, not empty, got []"),
        ("dataset: {input_dim: 0}", "dataset.input_dim: must be a whole number, at least 1 or a list of whole"),
        ("dataset: {crop_ratio: [1]}", "dataset.crop_ratio: must be two numbers [low, high] or null, got [1]"),
        ("dataset: {feat_folder: 3}", "dataset.feat_folder: must be text or a list of texts, got 3"),
        ("model: {backbone: {arch: [2, 2]}}", "model.backbone.arch: must be 3 whole numbers, got [2, 2]"),
        ("model: {backbone: {arch: [2, 2, 99]}}", "model.backbone.arch: must be 3 whole numbers"),
        ("model: {regression_range: [[0, 4], [4, 8, 9]]}", "model.regression_range: must be a list of pairs of"),
        ("model: {meta_arch: null}", "model.meta_arch: must be one of LocPointTransformer, SnapFormer, TBTFormer"),
        ("test_cfg: {chunk: {overlap: 3}}", "test_cfg.chunk.length: is missing"),
        ("test_cfg: {chunk: 3}", "test_cfg.chunk: must be a section of keys or null, got 3"),
        ("device: gpu", "device: must be one of auto"),
        ("tiou_thresholds: 0.5", "tiou_thresholds: must be a list of numbers"),
        ("opt.epochs: 3", "opt.epochs: unknown key; write it below its section: `opt:`"),
        ("model: {n_head: 8}", "model.n_head: unknown key; did you mean model.backbone.n_head?"),
        ("optimizer: {lr: 1}", "optimizer: unknown key; did you mean opt?"),
        ("x: 1", "x: unknown key; known here: dataset_name"),
        ("dataset: {json_file: '${NOT_SET_ANYWHERE}/a'}", "dataset.json_file: environment variable NOT_SET_ANYWHERE"),
    ],
)
def test_wrong_values(tmp_path: Path, text: str, message: str) -> None:
    found = problems_of(write(tmp_path, text))
    assert len(found) == 1, found
    assert found[0].startswith(f"c.yaml:1: {message}"), found[0]


def test_a_section_whose_keys_are_commented_out_means_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "opt:\nmodel:\n  backbone:\n")) == Config().resolve()


def test_long_values_are_shortened_in_messages(tmp_path: Path) -> None:
    assert len(problems_of(write(tmp_path, f"seed: {'x' * 500}"))[0]) < 200


def test_warnings_are_logged_and_loading_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "model: {backbone: {use_rel_pe: true}}")
    with caplog.at_level(logging.WARNING, logger="eventide"):
        load_config(path)
    assert "has no effect" in caplog.text
    assert f"{path}:1" in caplog.text


# --- writing and origins ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_load_and_survive_a_round_trip(tmp_path: Path, path: Path) -> None:
    config = load_config(path)
    assert load_config(write(tmp_path, config_to_yaml(config))) == config


def test_round_trip_of_texts_that_look_like_variables(tmp_path: Path) -> None:
    config = Config(dataset_name="${A} $${B} 'x' null").resolve()
    assert load_config(write(tmp_path, config_to_yaml(config))) == config


def test_environment_variable_moves_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in SHIPPED if path.name == "hapt_segments.yaml")
    monkeypatch.delenv("EVENTIDE_DATA", raising=False)
    assert load_config(path).dataset.json_file == "data/hapt/segments.json"
    monkeypatch.setenv("EVENTIDE_DATA", "/elsewhere")
    assert load_config(path).dataset.json_file == "/elsewhere/hapt/segments.json"


def test_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", "r")
    write(tmp_path, "opt:\n  epochs: 7\n", "base.yaml")
    path = write(tmp_path, "base: base.yaml\ndataset:\n  feat_folder:\n    - ${ROOT}/x\n    - y\n  max_seq_len: 8\n")
    origins = load_config_with_origins(path, ["seed=3"]).origins
    shown = {
        key: str(origins[tuple(key.split("."))]).replace(f"{tmp_path}/", "")
        for key in ("opt.epochs", "dataset.feat_folder", "seed", "model.fpn_dim", "opt.type", "model.backbone.max_len")
    }
    assert shown == {
        "opt.epochs": "base base.yaml:2",
        "dataset.feat_folder": "c.yaml:3 ($ROOT)",
        "seed": "--set",
        "model.fpn_dim": "derived",
        "opt.type": "default",
        "model.backbone.max_len": "derived",
    }


@pytest.mark.parametrize(
    ("label", "make", "message"),
    [
        ("missing", lambda path: None, "no such configuration file"),
        ("folder", lambda path: path.mkdir(), "is a folder"),
        ("binary", lambda path: path.write_bytes(b"\x89PNG\xff\xfe\x00"), "is not a text file"),
        ("empty", lambda path: path.write_text(""), "is empty"),
        ("comment only", lambda path: path.write_text("# nothing"), "is empty"),
        ("huge", lambda path: path.write_text("a: 1\n" * 100_000), "too large"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, label: str, make: Any, message: str) -> None:
    make(tmp_path / "c.yaml")
    assert message in problems_of(tmp_path / "c.yaml")[0]


def test_a_path_that_no_file_can_have() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config("a\0b.yaml")
