"""The schema: every key explained once, hints for unknown keys, what a key accepts in words, the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventide.config_actionformer import ALIASES
from eventide.config_schema import expected, fields, leaf_of, nearest_key, section_class
from eventide.config_writing import json_schema, keys_as_markdown

DOCS = Path(__file__).resolve().parents[2] / "docs"

CANONICAL_KEYS = [
    *("model.meta_arch", "model.fpn_type", "model.reg_max", "model.dfl_weight", "model.backbone_type"),
    *(
        f"model.backbone.{key}"
        for key in ("n_embd", "n_head", "n_kv_head", "n_hidden", "arch", "mha_win_size", "max_len")
    ),
    *(f"model.backbone.use_{key}" for key in ("rope", "flash_attn", "swiglu", "rms_norm", "abs_pe")),
    "loader.batch_size",
]


@pytest.mark.parametrize("key", CANONICAL_KEYS)
def test_canonical_keys(key: str) -> None:
    assert tuple(key.split(".")) in fields()


def test_every_key_is_explained_and_no_explanation_is_given_twice() -> None:
    texts = [field.description for field in fields().values()]
    assert all(text and text.endswith(".") for text in texts), [
        text for text in texts if not (text or "").endswith(".")
    ]
    assert len(set(texts)) == len(texts)


def test_json_schema_has_every_key_with_its_explanation() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert "description" in schema["properties"]["base"]
    definitions = {**schema["$defs"], "Config": schema}
    explained = {(name, key): entry for name, part in definitions.items() for key, entry in part["properties"].items()}
    for path, field in fields().items():
        holders = [entry for (_, key), entry in explained.items() if key == path[-1]]
        assert any(entry.get("description") == field.description for entry in holders), path
    assert all(part["additionalProperties"] is False for part in definitions.values())


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("opt.learing_rate", "did you mean opt.learning_rate?"),
        ("optt.learning_rate", "did you mean opt.learning_rate?"),
        ("learning_rate", "did you mean opt.learning_rate?"),
        ("dataset.inputdim", "did you mean dataset.input_dim?"),
        ("model.n_head", "did you mean model.backbone.n_head?"),
        ("batch_size", "did you mean loader.batch_size or test_cfg.batch_size?"),
        ("train_cfg.nms_sigma", "did you mean test_cfg.nms_sigma?"),
        ("opt.lr", "did you mean opt.learning_rate?"),
        ("lr", "did you mean opt.learning_rate?"),
        ("optimizer", "did you mean opt?"),
        ("model.n_mha_win_size", "ActionFormer's name; here it is model.backbone.mha_win_size"),
        ("model_name", "ActionFormer's name; here it is model.meta_arch"),
        ("loader.zzzz", "known here: batch_size, num_workers, drop_last, batching, num_lengths"),
    ],
)
def test_hints_for_unknown_keys(key: str, hint: str) -> None:
    assert nearest_key(tuple(key.split(".")), ALIASES) == hint


@pytest.mark.parametrize("key", [".".join(path) for path in fields() if len(path) > 1])
def test_one_missing_letter_finds_the_key(key: str) -> None:
    section, _, name = key.rpartition(".")
    short = f"{section}.{name[:2]}{name[3:]}"
    if len(name) > 4 and tuple(short.split(".")) not in fields():
        assert key in nearest_key(tuple(short.split(".")))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("opt.epochs", "a whole number, at least 1"),
        ("opt.momentum", "a number, at least 0, less than 1"),
        ("opt.warmup", "true or false"),
        ("dataset.json_file", "text"),
        ("dataset.default_fps", "a number, greater than 0, or null"),
        ("dataset.feat_folder", "text or a list of texts"),
        ("dataset.crop_ratio", "two numbers [low, high] or null"),
        ("model.regression_range", "a list of pairs of numbers [low, high] or null"),
        ("model.backbone.arch", "3 whole numbers"),
        (
            "model.heatmap.width",
            "a number, greater than 0 or a mapping of labels to numbers, greater than 0 or the word duration or null",
        ),
        ("test_cfg.nms_method", "one of soft, hard, none"),
        ("test_cfg.chunk", "a section of keys or null"),
        ("tiou_thresholds", "a list of numbers, not empty"),
    ],
)
def test_what_a_key_accepts_in_words(key: str, words: str) -> None:
    assert expected(fields()[tuple(key.split("."))]) == words


def test_leaf_of_stops_at_the_key() -> None:
    assert leaf_of(("model", "regression_range", 0, 1))[0] == ("model", "regression_range")
    assert leaf_of(("nothing", "here")) == ((), None)


def test_sections_are_told_from_values() -> None:
    sections = {".".join(path) for path, field in fields().items() if section_class(field.annotation)}
    assert sections == {
        *("dataset", "loader", "model", "model.backbone", "model.heatmap"),
        *("train_cfg", "test_cfg", "test_cfg.chunk", "opt"),
    }


def test_the_written_reference_is_current() -> None:
    written = (DOCS / "config_reference.md").read_text(encoding="utf-8")
    assert written == keys_as_markdown(), "run: eventide config schema --markdown > docs/config_reference.md"
