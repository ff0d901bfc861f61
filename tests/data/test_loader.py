"""Batches: padding, an endless stream that starts anywhere, the same whatever the number of loader processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eventide.config import LoaderConfig
from eventide.data import loader
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import collate, evaluation_batches, training_steps
from eventide.types import Batch, EventideError, Sample, Timeline
from tests.data.making import assert_same, make_data, write_features


@pytest.fixture
def dataset(tmp_path: Path) -> EventDataset:
    """Seven training recordings."""
    return EventDataset(make_data(tmp_path, crop_ratio=(0.5, 1.0)), ["training"], training=True)


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


def test_collate_takes_a_single_sequence_as_it_is() -> None:
    sample = sample_of(3, 1)
    batch = collate([sample])
    assert batch.features.data_ptr() == sample.features.data_ptr()
    assert batch.features.tolist() == [sample.features.t().tolist()]
    longer = collate([sample], padded=[5])
    assert longer.features.shape == (1, 3, 5)
    assert longer.mask.tolist() == [[True] * 3 + [False] * 2]
    every_second = sample_of(6, 1)
    every_second.features = every_second.features[::2]
    found = collate([every_second]).features.transpose(1, 2)
    assert found.is_contiguous()
    assert torch.equal(found[0], every_second.features)


def test_collate_without_any_event_keeps_one_empty_row() -> None:
    batch = collate([sample_of(2, 0)])
    assert batch.segments.tolist() == [[[0, 0]]]
    assert batch.label_ids.tolist() == [[-1]]


COLLATED = [
    pytest.param((), 4, id="to the longest"),
    pytest.param((4, 8), 4, id="the longest is a padded length"),
    pytest.param((2, 3, 6, 9), 6, id="to the next padded length"),
    pytest.param((9,), 9, id="one length"),
]


@pytest.mark.parametrize(("padded", "length"), COLLATED)
def test_collate_to_padded_lengths(padded: tuple[int, ...], length: int) -> None:
    batch = collate([sample_of(2, 1), sample_of(4, 1)], padded)
    assert batch.features.shape == (2, 3, length)
    assert batch.mask.sum(1).tolist() == [2, 4] == batch.lengths
    assert batch.features[:, :, 4:].abs().sum() == 0


def test_collate_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="a sample of 4 vectors does not fit into a batch of 3"):
        collate([sample_of(4, 1)], (2, 3))


def stream(
    dataset: EventDataset, workers: int = 0, first: int = 0, seed: int = 4, **loader: Any
) -> Generator[Batch, None, None]:
    plan = replace(BatchPlan.of(dataset, LoaderConfig(batch_size=2, **loader)), seed=seed)
    return (batch for (batch,) in training_steps(dataset, plan, num_workers=workers, first_step=first))


def test_every_epoch_visits_every_recording_once(dataset: EventDataset) -> None:
    batches = list(islice(stream(dataset), 12))
    epochs = [[name for batch in batches[4 * epoch : 4 * epoch + 4] for name in batch.ids] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(recording.id for recording in dataset.recordings) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [len(batch.ids) for batch in batches[:4]] == [2, 2, 2, 1]
    dropped = list(islice(stream(dataset, drop_last=True), 6))
    assert [len(batch.ids) for batch in dropped] == [2] * 6
    assert_same(dropped[:3], batches[:3])
    assert_same(dropped[3:], batches[4:7])


HOW = [
    pytest.param({}, id="longest"),
    pytest.param({"batching": "bucketed"}, id="bucketed"),
    pytest.param({"batching": "bucketed", "num_lengths": 2, "drop_last": True}, id="bucketed to two lengths"),
    pytest.param({"batching": "fixed"}, id="fixed"),
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(dataset: EventDataset, workers: int, how: dict[str, Any]) -> None:
    assert_same(list(islice(stream(dataset, **how), 11)), list(islice(stream(dataset, workers, **how), 11)))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("first", [0, 1, 3, 4, 9])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_can_start_anywhere(
    dataset: EventDataset, workers: int, first: int, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(islice(stream(dataset, **how), 13))
    loaded = []
    real = EventDataset.sample
    monkeypatch.setattr(
        EventDataset, "sample", lambda self, index, epoch=0: loaded.append(index) or real(self, index, epoch)
    )
    assert_same(list(islice(stream(dataset, workers, first, **how), 13 - first)), whole[first:])
    if workers == 0:
        assert len(loaded) == sum(len(batch.ids) for batch in whole[first:])


@pytest.mark.parametrize("how", HOW)
def test_the_plan_knows_the_lengths_without_reading_features(dataset: EventDataset, how: dict[str, Any]) -> None:
    plan = replace(BatchPlan.of(dataset, LoaderConfig(batch_size=2, **how)), seed=4)
    batches = list(islice(stream(dataset, **how), 2 * plan.batches_per_epoch))
    ids = [recording.id for recording in dataset.recordings]
    for number, batch in enumerate(batches):
        epoch, place = divmod(number, plan.batches_per_epoch)
        members = plan.batches(epoch)[place]
        assert batch.ids == [ids[index] for index in members]
        assert batch.lengths == plan.sample_lengths(epoch)[members].tolist()
        assert not plan.lengths or batch.features.shape[-1] in plan.lengths
    for epoch in range(2):
        part = batches[epoch * plan.batches_per_epoch :][: plan.batches_per_epoch]
        real, computed = sum(sum(batch.lengths) for batch in part), sum(batch.mask.numel() for batch in part)
        assert plan.padding_share(epoch) == pytest.approx(1 - real / computed, abs=1e-12)
        assert "fixed" not in how.values() or {batch.features.shape[-1] for batch in part} == {64}


def test_other_seeds_make_other_batches(dataset: EventDataset) -> None:
    first = list(islice(stream(dataset), 4))
    other = list(islice(stream(dataset, seed=5), 4))
    assert [batch.ids for batch in other] != [batch.ids for batch in first]


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_stays_put(dataset: EventDataset, workers: int) -> None:
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
    batches = list(evaluation_batches(EventDataset(config, ["training"], training=False), batch_size, workers))
    assert [name for batch in batches for name in batch.ids] == ["rec1", "rec3", "rec4", "none", "rec0", "rec2", "rec5"]
    assert [length for batch in batches for length in batch.lengths] == [50, 50, 31, 12, 10, 7, 1]
    assert len(batches) == -(-7 // batch_size)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_file_is_one_message(dataset: EventDataset, workers: int, tmp_path: Path) -> None:
    (tmp_path / "features" / "rec3.npy").write_bytes(b"")
    with pytest.raises(EventideError, match=r"rec3\.npy: the feature file is empty") as caught:
        list(islice(stream(dataset, workers), 8))
    assert len(str(caught.value).splitlines()) == 1


def children() -> int:
    return len(multiprocessing.active_children())


def test_more_processes_than_cores_are_taken_without_a_word(
    dataset: EventDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)  # where PyTorch looks for cores
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        batches = stream(dataset, workers=2)
        next(batches)
        batches.close()
    assert [str(warning.message) for warning in said] == []


@pytest.mark.parametrize("how", ["closed", "forgotten", "interrupted", "error"])
def test_processes_end_with_the_stream(dataset: EventDataset, how: str) -> None:
    before = children()
    batches = stream(dataset, workers=2)
    next(batches)
    assert children() == before + 2
    if how == "closed":
        batches.close()
    elif how == "forgotten":
        del batches
    else:
        error = KeyboardInterrupt if how == "interrupted" else EventideError
        with pytest.raises(error):
            batches.throw(error())
    assert children() == before


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from eventide.config import LoaderConfig
from eventide.data.batching import BatchPlan
from eventide.data.dataset import EventDataset
from eventide.data.loader import training_steps
from tests.data.making import make_config

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with Ctrl-C ignored
dataset = EventDataset(make_config(Path(sys.argv[1])), ["training"], training=True)
try:
    plan = BatchPlan.of(dataset, LoaderConfig(batch_size=2))
    for step, _ in enumerate(training_steps(dataset, plan, num_workers=2)):
        if step == 3:
            print("ready", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
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
def test_a_killed_process_is_a_clear_message(dataset: EventDataset) -> None:
    before = set(multiprocessing.active_children())
    batches = stream(dataset, workers=1)
    next(batches)
    (process,) = set(multiprocessing.active_children()) - before
    os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(EventideError, match=r"a loader process was killed.*num_workers"):
        list(islice(batches, 20))


def without_files(samples: list[Sample], padded: Sequence[int]) -> Batch:
    """A batch, after which the process may open no file more."""
    import resource  # Windows has none

    batch = collate(samples, padded)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return batch


def without_memory(obj: object) -> bytes:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)\nC++")


def without_room(*words: object) -> None:
    raise OSError(28, "No space left on device")


def broken(self: EventDataset, index: int, epoch: int = 0) -> Sample:
    raise RuntimeError("stack expects each tensor to be equal size")


NOT_HANDED_OVER = [
    pytest.param((loader, "collate", without_files), r"\(.*[Tt]oo many open files.*\).*ulimit -n", id="files"),
    pytest.param(
        (loader, "ForkingPickler", SimpleNamespace(dumps=without_memory)),
        r"\(unable.*\(28\)\): make /dev/shm larger",
        id="memory",
    ),
    pytest.param((loader, "_processes", without_room), r"\(.*No space left.*\): make /dev/shm larger", id="semaphores"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("replaced", "message"), NOT_HANDED_OVER)
def test_a_batch_that_cannot_be_handed_over_is_a_message(
    dataset: EventDataset, monkeypatch: pytest.MonkeyPatch, replaced: tuple[Any, str, Any], message: str
) -> None:
    """In the thread where PyTorch would pack it, the batch would be lost, and waited for without end."""
    monkeypatch.setattr(*replaced)
    with pytest.raises(EventideError, match=f"cannot hand over their batches {message}"):
        next(stream(dataset, workers=1))


@pytest.mark.slow
def test_an_error_of_our_own_in_a_loader_process_is_shown_as_it_is(
    dataset: EventDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventDataset, "sample", broken)
    with pytest.raises(RuntimeError, match="stack expects each tensor"):
        next(stream(dataset, workers=1))
