"""Batches: padding, an endless stream that starts anywhere, the same whatever the number of loader processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from eventide.data.dataset import SegmentDataset
from eventide.data.loader import collate, evaluation_batches, steps_per_epoch, training_batches
from eventide.types import Batch, EventideError, Sample, Timeline
from tests.data.making import make_data, write_features


@pytest.fixture
def dataset(tmp_path: Path) -> SegmentDataset:
    """Seven training recordings."""
    return SegmentDataset(make_data(tmp_path, crop_ratio=(0.5, 1.0)), ["training"], training=True)


def sample_of(length: int, events: int, name: str = "a") -> Sample:
    segments = torch.arange(events * 2, dtype=torch.float32).reshape(events, 2) + 1
    features = torch.arange(length * 3, dtype=torch.float32).reshape(length, 3) + 1
    return Sample(name, features, segments, torch.arange(events), Timeline(10.0, 5.0, 10.0, float(length)))


def test_collate_pads_at_the_end() -> None:
    batch = collate([sample_of(2, 1, "a"), sample_of(4, 3, "b"), sample_of(1, 0, "c")])
    assert batch.ids == ["a", "b", "c"]
    assert batch.lengths == [2, 4, 1]
    assert batch.features.shape == (3, 3, 4)
    assert batch.features[0, :, :2].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert batch.features[0, :, 2:].abs().sum() == 0
    assert batch.mask.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert batch.label_ids.tolist() == [[0, -1, -1], [0, 1, 2], [-1, -1, -1]]
    assert batch.segments.shape == (3, 3, 2)
    assert batch.segments[0].tolist() == [[1, 2], [0, 0], [0, 0]]
    assert [timeline.duration for timeline in batch.timelines] == [2.0, 4.0, 1.0]


def test_collate_without_any_event_keeps_one_empty_row() -> None:
    batch = collate([sample_of(2, 0)])
    assert batch.segments.tolist() == [[[0, 0]]]
    assert batch.label_ids.tolist() == [[-1]]


STEPS = [
    pytest.param(7, 2, False, 4, id="a smaller batch at the end"),
    pytest.param(7, 2, True, 3, id="left out"),
    pytest.param(8, 2, True, 4, id="divides"),
    pytest.param(1, 4, False, 1, id="one small batch"),
    pytest.param(1, 4, True, None, id="no batch at all"),
    pytest.param(0, 4, False, None, id="no recordings"),
]


@pytest.mark.parametrize(("count", "batch_size", "drop_last", "steps"), STEPS)
def test_steps_per_epoch(count: int, batch_size: int, drop_last: bool, steps: int | None) -> None:
    if steps is None:
        with pytest.raises(EventideError, match="an epoch has no batch"):
            steps_per_epoch(count, batch_size, drop_last)
    else:
        assert steps_per_epoch(count, batch_size, drop_last) == steps


def stream(dataset: SegmentDataset, workers: int = 0, first: int = 0, drop_last: bool = False) -> Iterator[Batch]:
    return training_batches(dataset, batch_size=2, num_workers=workers, seed=4, drop_last=drop_last, first_step=first)


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    for a, b in zip(first, second, strict=True):
        for name in ("features", "mask", "segments", "label_ids"):
            assert torch.equal(getattr(a, name), getattr(b, name))
        assert (a.lengths, a.timelines) == (b.lengths, b.timelines)


def test_every_epoch_visits_every_recording_once(dataset: SegmentDataset) -> None:
    batches = list(islice(stream(dataset), 12))
    epochs = [[name for batch in batches[4 * epoch : 4 * epoch + 4] for name in batch.ids] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(recording.id for recording in dataset.recordings) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [len(batch.ids) for batch in batches[:4]] == [2, 2, 2, 1]
    dropped = list(islice(stream(dataset, drop_last=True), 6))
    assert [len(batch.ids) for batch in dropped] == [2] * 6
    assert_same(dropped[:3], batches[:3])
    assert_same(dropped[3:], batches[4:7])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(dataset: SegmentDataset, workers: int) -> None:
    assert_same(list(islice(stream(dataset), 11)), list(islice(stream(dataset, workers), 11)))


@pytest.mark.parametrize("first", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_can_start_anywhere(
    dataset: SegmentDataset, workers: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(islice(stream(dataset), 13))
    loaded = []
    real = SegmentDataset.sample
    monkeypatch.setattr(
        SegmentDataset, "sample", lambda self, index, epoch=0: loaded.append(index) or real(self, index, epoch)
    )
    assert_same(list(islice(stream(dataset, workers, first), 13 - first)), whole[first:])
    if workers == 0:
        assert len(loaded) == sum(len(batch.ids) for batch in whole[first:])


def test_other_seeds_make_other_batches(dataset: SegmentDataset) -> None:
    first = list(islice(stream(dataset), 4))
    other = training_batches(dataset, batch_size=2, num_workers=0, seed=5, drop_last=False)
    assert [batch.ids for batch in islice(other, 4)] != [batch.ids for batch in first]


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_stays_put(dataset: SegmentDataset, workers: int) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = (torch.rand(1), np.random.rand())  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    list(islice(stream(dataset, workers), 3))
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 20])
def test_evaluation_visits_each_recording_once_longest_first(tmp_path: Path, workers: int, batch_size: int) -> None:
    lengths = {"rec0": 10, "rec1": 50, "rec2": 7, "rec3": 50, "rec4": 31, "rec5": 1, "none": 12}
    config = make_data(tmp_path)
    write_features(tmp_path / "features", lengths)
    batches = list(evaluation_batches(SegmentDataset(config, ["training"], training=False), batch_size, workers))
    assert [name for batch in batches for name in batch.ids] == ["rec1", "rec3", "rec4", "none", "rec0", "rec2", "rec5"]
    assert [length for batch in batches for length in batch.lengths] == [50, 50, 31, 12, 10, 7, 1]
    assert len(batches) == -(-7 // batch_size)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_one_message(dataset: SegmentDataset, workers: int, tmp_path: Path) -> None:
    (tmp_path / "features" / "rec3.npy").write_bytes(b"")
    with pytest.raises(EventideError, match=r"rec3\.npy: the feature file is empty") as caught:
        list(islice(stream(dataset, workers), 8))
    assert len(str(caught.value).splitlines()) == 1


def children() -> int:
    return len(multiprocessing.active_children())


@pytest.mark.parametrize("how", ["closed", "forgotten", "interrupted", "error"])
def test_processes_end_with_the_stream(dataset: SegmentDataset, how: str) -> None:
    before = children()
    batches = stream(dataset, workers=2)
    next(batches)
    assert children() == before + 2
    if how == "closed":
        batches.close()  # type: ignore[attr-defined]
    elif how == "forgotten":
        del batches
    else:
        error = KeyboardInterrupt if how == "interrupted" else EventideError
        with pytest.raises(error):
            batches.throw(error())  # type: ignore[attr-defined]
    assert children() == before


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from eventide.data.dataset import SegmentDataset
from eventide.data.loader import training_batches
from tests.data.making import make_config

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with Ctrl-C ignored
dataset = SegmentDataset(make_config(Path(sys.argv[1])), ["training"], training=True)
try:
    for step, _ in enumerate(training_batches(dataset, batch_size=2, num_workers=2, seed=1, drop_last=False)):
        if step == 3:
            print("ready", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_shows_no_traceback(tmp_path: Path) -> None:
    make_data(tmp_path)
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    repository = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes of the group get it
    output, errors = process.communicate(timeout=60)
    assert output == "interrupted\n"
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_killed_process_is_a_clear_message(dataset: SegmentDataset) -> None:
    before = set(multiprocessing.active_children())
    batches = stream(dataset, workers=1)
    next(batches)
    (process,) = set(multiprocessing.active_children()) - before
    os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(EventideError, match=r"a loader process was killed.*num_workers"):
        list(islice(batches, 20))
