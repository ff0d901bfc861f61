"""Checkpoint and model files: what comes back, what is kept, what a damaged file does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eventide.engine.checkpoint import (
    REQUIRED,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    newest_readable,
    save_checkpoint,
)
from eventide.engine.model_file import StoredModel, load_model, save_model
from eventide.models import build
from eventide.ops.files import remove_temporary_files, replacing, write_file
from eventide.types import EventideError
from tests.engine.making import LABELS, tiny_config

CONTENT = {**dict.fromkeys(REQUIRED, 0), "model": {"weight": torch.arange(6.0)}}


def test_content_comes_back(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path / "checkpoints", 12)
    save_checkpoint(path, CONTENT, keep=3)
    assert path.name == "step_00000012.pt"
    assert torch.equal(load_checkpoint(path)["model"]["weight"], torch.arange(6.0))


def test_the_newest_are_kept_by_number_and_nothing_else_is_touched(tmp_path: Path) -> None:
    other = tmp_path / "step_mine.pt"
    other.write_text("mine")
    for step in (9, 10, 99_999_999, 100_000_000):
        save_checkpoint(checkpoint_path(tmp_path, step), CONTENT, keep=2)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step_100000000.pt", "step_99999999.pt"]
    assert other.exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: object) -> None:
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    writers = [replacing(tmp_path / name) for name in ("best.safetensors", "checkpoints/step_00000001.pt")]
    for writer in writers:
        writer.__enter__()  # and never out of it again
    (tmp_path / "checkpoints" / "step_00000001.pt").write_text("")
    assert len(list(tmp_path.rglob("*.tmp"))) == 2
    remove_temporary_files(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["step_00000001.pt"]


def test_newest_readable_skips_damaged_files_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    assert newest_readable(tmp_path / "not there", said.append) is None
    for step in (1, 2, 3):
        save_checkpoint(checkpoint_path(tmp_path, step), CONTENT, keep=3)
    checkpoint_path(tmp_path, 3).write_bytes(b"")
    checkpoint_path(tmp_path, 2).write_bytes(checkpoint_path(tmp_path, 2).read_bytes()[:-100])
    found = newest_readable(tmp_path, said.append)
    assert found is not None
    assert found[0] == checkpoint_path(tmp_path, 1)
    assert len(said) == 2
    checkpoint_path(tmp_path, 1).write_bytes(b"PK")
    with pytest.raises(EventideError, match="none of the 3 checkpoints"):
        newest_readable(tmp_path, said.append)


@given(cut=st.integers(0, 2000), start=st.binary(max_size=40))
def test_a_damaged_checkpoint_is_one_message(tmp_path: Path, cut: int, start: bytes) -> None:
    good = tmp_path / "good.pt"
    if not good.exists():
        save_checkpoint(good, CONTENT, keep=1)
    whole = good.read_bytes()
    bad = tmp_path / "bad.pt"
    bad.write_bytes(start + whole[len(start) : cut])
    with pytest.raises(EventideError) as caught:
        load_checkpoint(bad)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(cut=st.integers(0, 3000), start=st.binary(max_size=40))
def test_a_damaged_model_file_is_one_message(tmp_path: Path, cut: int, start: bytes) -> None:
    good, bad = tmp_path / "good.safetensors", tmp_path / "bad.safetensors"
    if not good.exists():
        config = tiny_config(tmp_path)
        save_model(good, StoredModel(config, list(LABELS), 10.0, dict(build(config).detector.state_dict())))
    bad.write_bytes(start + good.read_bytes()[len(start) : cut])
    with pytest.raises(EventideError):
        load_model(bad)


def test_a_model_file_keeps_everything(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    tensors = dict(build(config).detector.state_dict())
    path = tmp_path / "model.safetensors"
    save_model(path, StoredModel(config, ["a", "Überholen"], 29.97, tensors), {"step": 3})
    model = load_model(path)
    assert model.config == config
    assert (model.labels, model.fps) == (["a", "Überholen"], 29.97)
    assert model.tensors.keys() == tensors.keys()
    assert all(torch.equal(tensor, model.tensors[name]) for name, tensor in tensors.items())
