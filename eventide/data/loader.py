"""Batches: an endless training stream that can start anywhere, and one pass over a data set for evaluation.

The batches of training step k are a pure function of (seed, k): neither the number of loader processes nor where a run
was resumed changes them. No global random state is read or moved.
"""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from eventide.data.batching import BatchPlan, padded_length
from eventide.data.dataset import EventDataset
from eventide.data.steps import ALONE, Piece, Share, step_pieces
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
    vectors = _together([sample.features for sample in samples], whole)
    segments = torch.zeros(count, events, 2)
    label_ids = torch.full((count, events), -1, dtype=torch.int64)
    for row, sample in enumerate(samples):
        segments[row, : len(sample.segments)] = sample.segments
        label_ids[row, : len(sample.label_ids)] = sample.label_ids
    mask = torch.arange(whole)[None, :] < torch.tensor(lengths)[:, None]
    ids = [sample.id for sample in samples]
    timelines = [sample.timeline for sample in samples]
    return Batch(ids, vectors.transpose(1, 2), mask, lengths, segments, label_ids, timelines)


def _together(features: list[Tensor], length: int) -> Tensor:
    """Features (T, C) padded with zeros: (B, length, C), vector after vector as the network reads them; a single
    sequence as it is.
    """
    if len(features) == 1 and len(features[0]) == length:
        return features[0].unsqueeze(0).contiguous()
    vectors = features[0].new_empty(len(features), length, features[0].shape[1])
    for row, own in zip(vectors, features, strict=True):
        row[: len(own)] = own
        row[len(own) :] = 0.0
    return vectors


def training_steps(
    dataset: EventDataset, plan: BatchPlan, *, num_workers: int, first_step: int = 0, share: Share = ALONE
) -> Iterator[list[Batch]]:
    """The batches of optimiser step `first_step`, `first_step` + 1, ... without end, those of one process's `share`;
    earlier ones are not loaded.

    Each epoch visits every recording once, in an order of its own. Close the iterator (or let go of it) to stop the
    loader processes. A problem with a sample is raised as `EventideError` when its step is due.
    """
    steps = step_pieces(plan, share, first_step)
    return _loaded(dataset, map(_places, steps), num_workers, plan.lengths)


def _places(step: tuple[int, list[Piece]]) -> list[list[Place]]:
    epoch, pieces = step
    return [[Place(epoch, int(index)) for index in piece.samples] for piece in pieces]


def evaluation_batches(
    dataset: EventDataset, batch_size: int, num_workers: int, share: Share = ALONE
) -> Iterator[Batch]:
    """Every recording once, in batches of similar length, longest first, so that too little memory shows at once; of
    several processes each takes every so many-th batch.
    """
    order = sorted(range(len(dataset)), key=lambda index: (-dataset.length(index), index))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = groups[share.rank :: share.size]
    for batches in _loaded(dataset, iter([[[Place(0, index) for index in group]] for group in mine]), num_workers):
        yield from batches


class _Failure(NamedTuple):
    """An error on its way from a loader process: PyTorch would wrap it in a traceback."""

    message: str


class _StepLoader:
    """Loads some batches per list of lists of places, as PyTorch's DataLoader asks for them."""

    def __init__(self, dataset: EventDataset, padded: Sequence[int]) -> None:
        self.dataset, self.padded = dataset, padded

    def __getitem__(self, group: list[Place]) -> Batch:
        return collate([self.dataset.sample(place.sample, place.epoch) for place in group], self.padded)

    def __getitems__(self, groups: list[list[Place]]) -> bytes | _Failure:
        """What a loader process hands over.

        Packed here: PyTorch does it in a thread where an error is printed and the batch lost, and the main process
        would wait for it without end.
        """
        try:
            batches = [self[group] for group in groups]
        except EventideError as error:
            return _Failure(str(error))
        try:
            return bytes(ForkingPickler.dumps(batches))
        except (RuntimeError, OSError) as error:
            return _Failure(_not_handed_over(error))


def _not_handed_over(error: Exception) -> str:
    return (
        f"loader processes cannot hand over their batches ({str(error).splitlines()[0]}): make /dev/shm larger (docker "
        "run --shm-size=8g) or allow more open files (ulimit -n), whichever it is, or set loader.num_workers to 0"
    )


def _unchanged(batch: Any) -> Any:
    return batch


def _stay_quiet(worker: int) -> None:
    """Let a loader process leave the end of a run to the main one.

    Ctrl-C reaches every process of the terminal, SIGTERM under torchrun every process of the group: the main one alone
    answers and stops the others. A batch that is
    under way then loses its connection, which Python would print as a traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
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


def _processes(loader: _StepLoader, places: Iterator[list[list[Place]]], count: int) -> DataLoader[Any]:
    """Loader processes that hand over steps whole."""
    return DataLoader(
        loader,  # type: ignore[arg-type]
        batch_sampler=places,
        num_workers=count,
        collate_fn=_unchanged,
        worker_init_fn=_stay_quiet,
        prefetch_factor=PREFETCH,
        # The loader draws a base seed, which nothing here uses: from this generator, so that the global one stays put.
        generator=torch.Generator().manual_seed(0),
    )


def _loaded(
    dataset: EventDataset, places: Iterator[list[list[Place]]], num_workers: int, padded: Sequence[int] = ()
) -> Iterator[list[Batch]]:
    loader = _StepLoader(dataset, padded)
    if num_workers == 0:
        for groups in places:
            yield [loader[group] for group in groups]
        return
    with warnings.catch_warnings(), _same_child_handler():
        # More processes than cores, as the published settings have on a laptop, only take turns; whether training waits
        # for data is measured and told.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        try:
            stream = iter(_processes(loader, places, num_workers))
        except OSError as error:
            raise EventideError(_not_handed_over(error)) from None
    try:
        for packed in stream:
            yield _unpacked(packed)
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        # PyTorch names its dead process; one that died while it handed over a batch shows as a lost connection. What a
        # living one has raised begins with "Caught".
        lost = not isinstance(error, RuntimeError) or "DataLoader worker (pid" in str(error)
        if not lost or str(error).startswith("Caught "):
            raise
        raise EventideError(
            "a loader process was killed, probably because memory ran out; lower loader.num_workers or set it to 0"
        ) from error
    finally:
        stream._shutdown_workers()  # type: ignore[attr-defined]  # what letting go of it does, but now
        for process in stream._workers:  # type: ignore[attr-defined]
            process.kill()  # one that is stuck in a read: Python would wait for it at its own end
            process.join(1)


def _unpacked(packed: bytes | _Failure) -> list[Batch]:
    if isinstance(packed, _Failure):
        raise EventideError(packed.message)
    batches: list[Batch] = ForkingPickler.loads(packed)  # of a process of our own
    return batches
