"""config_labels.py: values per label become values per label id, and unknown labels one message."""

from __future__ import annotations

import pytest

from eventide.config import TestConfig
from eventide.config_labels import PER_LABEL, by_label_id, label_problems
from eventide.types import EventideError

LABELS = ["clap", "jump"]


def test_labels_of_settings() -> None:
    settings = TestConfig(min_gap={"jump": 1.0}, max_overlap=0.5, class_threshold={"jmp": 0.5, "x": 0.1})
    assert by_label_id(settings, "min_gap", LABELS) == {1: 1.0}
    assert by_label_id(settings, "max_overlap", LABELS) == by_label_id(settings, "class_sigma", LABELS) == {}
    message = (
        "test_cfg.class_threshold: 'jmp' (did you mean 'jump'?) and 1 more are not among the labels: 'clap', 'jump'"
    )
    assert label_problems(settings, LABELS) == [message]
    with pytest.raises(EventideError, match="not among the labels"):
        by_label_id(settings, "class_threshold", LABELS)
    assert "have no names here" in label_problems(settings, [])[0]
    assert "and 30 more" in label_problems(settings, [f"label {i}" for i in range(50)])[0]


def test_every_key_with_a_mapping_is_looked_at() -> None:
    mappings = [name for name, field in TestConfig.model_fields.items() if "dict[str" in str(field.annotation)]
    assert sorted(mappings) == sorted(PER_LABEL)
