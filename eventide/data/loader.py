"""Batches: an endless training stream that can start anywhere, and one pass over a data set for evaluation.

Batch k of training is a pure function of (seed, k): neither the number of loader processes nor where a run was resumed
changes it. No global random state is read or moved.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from eventide.data.batching import BatchPlan, padded_length
from eventide.data.dataset import EventDataset
from eventide.types import Batch, EventideError, Sample

# Batches that each loader process prepares ahead.
PREFETCH = 2


class Place(NamedTuple):
    """Which sample: the epoch decides its random window."""

    epoch: int
    sample: int


def collate(samples: Sequence[Sample], padded: Sequence[int] = ()) -> Batch:
    """Pad samples at the end to the longest of them, or to the first of the rising lengths `padded` that holds it.

    At least one row for events, so that no axis is empty.
    """
    lengths = [len(sample.features) for sample in samples]
    events = max(1, *(len(sample.label_ids) for sample in samples))
    count, whole = len(samples), padded_length(max(lengths), padded)
    # Stored as vector after vector, the order in which the network reads them: it then needs no copy.
    vectors = samples[0].features.new_zeros(count, whole, samples[0].features.shape[1])
    segments = torch.zeros(count, events, 2)
    label_ids = torch.full((count, events), -1, dtype=torch.int64)
    for row, sample in enumerate(samples):
        vectors[row, : lengths[row]] = sample.features
        segments[row, : len(sample.segments)] = sample.segments
        label_ids[row, : len(sample.label_ids)] = sample.label_ids
    mask = torch.arange(whole)[None, :] < torch.tensor(lengths)[:, None]
    ids = [sample.id for sample in samples]
    timelines = [sample.timeline for sample in samples]
    return Batch(ids, vectors.transpose(1, 2), mask, lengths, segments, label_ids, timelines)


def training_batches(
    dataset: EventDataset, plan: BatchPlan, *, num_workers: int, first_step: int = 0
) -> Iterator[Batch]:
    """Batches of step `first_step`, `first_step` + 1, ... without end; earlier ones are not loaded.

    Each epoch visits every recording once, in an order of its own. Close the iterator (or let go of it) to stop the
    loader processes. A problem with a sample is raised as `EventideError` when its batch is due.
    """
    return _batches(dataset, _training_places(plan, first_step), num_workers, plan.lengths)


def evaluation_batches(dataset: EventDataset, batch_size: int, num_workers: int) -> Iterator[Batch]:
    """Every recording once, in batches of similar length, longest first, so that too little memory shows at once."""
    order = sorted(range(len(dataset)), key=lambda index: (-dataset.length(index), index))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _batches(dataset, iter([[Place(0, index) for index in group] for group in groups]), num_workers)


def _training_places(plan: BatchPlan, first_step: int) -> Iterator[list[Place]]:
    """The places of the samples of each training batch."""
    epoch, step = divmod(first_step, plan.batches_per_epoch)
    while True:
        for batch in plan.batches(epoch)[step:]:
            yield [Place(epoch, int(index)) for index in batch]
        epoch, step = epoch + 1, 0


class _Failure(NamedTuple):
    """An error on its way from a loader process: PyTorch would wrap it in a traceback."""

    message: str


class _BatchLoader:
    """Loads one batch per list of places, as PyTorch's DataLoader asks for it."""

    def __init__(self, dataset: EventDataset, padded: Sequence[int]) -> None:
        self.dataset, self.padded = dataset, padded

    def __getitem__(self, place: Place) -> Sample:
        return self.dataset.sample(place.sample, place.epoch)

    def __getitems__(self, places: list[Place]) -> Batch | _Failure:
        try:
            return collate([self[place] for place in places], self.padded)
        except EventideError as error:
            return _Failure(str(error))


def _unchanged(batch: Any) -> Any:
    return batch


def _stay_quiet(worker: int) -> None:
    """Let a loader process leave the end of a run to the main one.

    Ctrl-C reaches every process of the terminal: the main one alone answers it and stops the others. A batch that is
    under way then loses its connection, which Python would print as a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _unless_lost_connection


def _unless_lost_connection(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, OSError | EOFError):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _same_child_handler() -> Iterator[None]:
    """Keep PyTorch from installing its handler of SIGCHLD.

    That one raises an error in whatever code runs at the moment a loader process is killed; without it, the loader
    notices the loss by itself, some seconds later, where it can be told apart.
    """
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.getsignal(signal.SIGCHLD) if main else None
    yield
    if main:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _batches(
    dataset: EventDataset, places: Iterator[list[Place]], num_workers: int, padded: Sequence[int] = ()
) -> Iterator[Batch]:
    loader = _BatchLoader(dataset, padded)
    if num_workers == 0:
        for group in places:
            yield _checked(loader.__getitems__(group))
        return
    processes: DataLoader[Any] = DataLoader(
        loader,  # type: ignore[arg-type]
        batch_sampler=places,
        num_workers=num_workers,
        collate_fn=_unchanged,
        worker_init_fn=_stay_quiet,
        prefetch_factor=PREFETCH,
        # The loader draws a base seed, which nothing here uses: from this generator, so that the global one stays put.
        generator=torch.Generator().manual_seed(0),
    )
    with _same_child_handler():
        stream = iter(processes)
    try:
        for batch in stream:
            yield _checked(batch)
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        # PyTorch names its dead process; one that died while it handed over a batch shows as a lost connection.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise EventideError(
            "a loader process was killed, probably because memory ran out; lower loader.num_workers or set it to 0"
        ) from error
    finally:
        stream._shutdown_workers()  # type: ignore[attr-defined]  # what letting go of it does, but now


def _checked(batch: Batch | _Failure) -> Batch:
    if isinstance(batch, _Failure):
        raise EventideError(batch.message)
    return batch
