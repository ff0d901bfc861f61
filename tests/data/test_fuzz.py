"""Whatever an annotation file or a feature file contains, the answer is data or one message."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from eventide.data.annotations import AnnotationSet, load_annotations
from eventide.data.features import FeatureStore
from eventide.types import EventideError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**400), 0, 1, 2])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", "\0", "..", "training"])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
NUMBERS = st.floats(-5, 80, width=32) | st.integers(-1, 60)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "segment": st.lists(NUMBERS, min_size=2, max_size=2) | ANYTHING,
        "label": st.sampled_from(["a", "b", "\ud800"]) | ANYTHING,
        "label_id": st.integers(0, 3) | ANYTHING,
        "time": NUMBERS | ANYTHING,
    },
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "subset": st.sampled_from(["training", "Validation"]) | ANYTHING,
        "duration": NUMBERS | ANYTHING,
        "fps": NUMBERS | ANYTHING,
        "annotations": st.lists(EVENTS | ANYTHING, max_size=4) | ANYTHING,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"database": st.dictionaries(st.text(max_size=4) | st.just("\udfff"), RECORDS | ANYTHING, max_size=4) | ANYTHING}
)


def load(path: Path) -> AnnotationSet | None:
    """What a user would see: annotations, or a message that can be printed."""
    message = ""
    try:
        found = load_annotations(path)
    except EventideError as error:
        message = str(error)
    if message:
        assert message.encode("utf-8").startswith(str(path).encode())
        with contextlib.suppress(EventideError):  # without `require` too
            assert load_annotations(path, require=False).problems
        return None
    for recording in found.recordings.values():
        assert recording.segments.shape == (len(recording.label_ids), 2)
        assert (recording.segments[:, 1] >= recording.segments[:, 0]).all()
        assert (recording.label_ids < len(found.labels)).all()
        if recording.is_point is not None:
            assert recording.is_point.any()
            points = recording.segments[recording.is_point]
            assert (points[:, 0] == points[:, 1]).all()
    return found


@settings(max_examples=300)
@given(document=DOCUMENTS | ANYTHING)
def test_any_json_document(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document), encoding="ascii")
    load(path)


@settings(max_examples=150)
@given(content=st.binary(max_size=60) | st.text('{}[]":,0123456789eE.-+ntrfalsu ', max_size=60).map(str.encode))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    load(path)


@settings(max_examples=100)
@given(cut=st.integers(0, 160), junk=st.binary(max_size=3))
def test_any_damage_to_a_good_file(tmp_path: Path, cut: int, junk: bytes) -> None:
    good = json.dumps({"database": {"a": {"subset": "training", "annotations": [{"segment": [1, 2], "label": "x"}]}}})
    path = tmp_path / "a.json"
    path.write_bytes(good[:cut].encode() + junk + good[cut + len(junk) :].encode())
    load(path)


def feature_file(ext: str) -> bytes:
    """A good file of 5 vectors of 3 channels."""
    array, file = np.arange(15, dtype=np.float32).reshape(5, 3), io.BytesIO()
    if ext == ".npy":
        np.save(file, array)
    elif ext == ".npz":
        np.savez_compressed(file, feats=array)
    elif ext == ".pt":
        torch.save(torch.from_numpy(array), file)
    else:
        file.write(save({"feats": array}))
    return file.getvalue()


FEATURE_FILES = {ext: feature_file(ext) for ext in (".npy", ".npz", ".pt", ".safetensors")}


@pytest.mark.filterwarnings("ignore")  # of NumPy and torch, about what they are given here
@settings(max_examples=300)
@given(ext=st.sampled_from(list(FEATURE_FILES)), data=st.data(), junk=st.binary(max_size=4), cut=st.booleans())
def test_any_damage_to_a_feature_file(tmp_path: Path, ext: str, data: st.DataObject, junk: bytes, cut: bool) -> None:
    good = FEATURE_FILES[ext]
    place = data.draw(st.integers(0, len(good)))
    path = tmp_path / f"a{ext}"
    path.write_bytes(good[:place] + junk + (b"" if cut else good[place + len(junk) :]))
    message = ""
    try:
        rows = FeatureStore(str(tmp_path), "", ext, 3).read("a", 1, 4)
    except EventideError as error:
        message = str(error)
    if message:
        assert message.startswith(str(path))
        assert len(message.splitlines()) == 1
    else:
        assert rows.shape[1] == 3
