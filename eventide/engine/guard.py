"""What a training says when numbers or memory run out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from eventide.engine.world import in_short
from eventide.ops.problems import name_some
from eventide.types import EventideError

ALLOCATOR_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "could not create a primitive",  # oneDNN, where it gets no memory for a convolution
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in ALLOCATOR_PHRASES)


def free_memory(device: torch.device) -> None:
    """Give back what a failed attempt has left: the memory of its error's frames and the allocator's reserve."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def out_of_memory(
    what: str, sequences: int, longest: int, checkpoint: Path | None, fused: bool = False
) -> EventideError:
    """The message when memory runs out in `what`, with a batch of `sequences`, the longest of `longest` vectors, and
    attention by `fused` kernels or not.
    """
    advice = "Reduce batch size: lower"
    if not fused:
        advice = "Enable Flash Attention, reduce batch size: set model.backbone.use_flash_attn: true "
        advice += "(convTransformerv2), lower"
    return EventideError(
        f"out of memory in {what} with {sequences} sequence(s) of up to {longest} feature vectors. {advice} "
        f"{_remedy(what, sequences)}. {_kept(checkpoint)}"
    )


@contextmanager
def memory_for(sequences: int, longest: int) -> Iterator[None]:
    """Where memory runs out within the context, say how to need less: `sequences` of up to `longest` vectors are
    predicted at a time.

    Raises:
        EventideError: memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fewer = "lower test_cfg.batch_size (--batch-size), or " if sequences > 1 else ""
        raise EventideError(
            f"out of memory in prediction with {sequences} recording(s) of up to {longest} feature vectors: {fewer}"
            "set test_cfg.chunk for shorter windows (--set test_cfg.chunk.length=4096 test_cfg.chunk.overlap=1024)"
        ) from None


def lost_connection(error: BaseException, checkpoint: Path | None) -> EventideError:
    """The message when another process of the training is gone, or cannot be talked to: `error` of the library."""
    return EventideError(
        "the connection to another process of this training is lost: it has failed (it says why), was killed, or the "
        f"network between them does not work ({in_short(error)}). {_kept(checkpoint)} Go on with --resume auto"
    )


def lost_data(error: EventideError, checkpoint: Path | None) -> EventideError:
    """The message when data that was there at the beginning cannot be read in the middle of a training."""
    return EventideError(f"{error}. {_kept(checkpoint)} Mend it, then go on with --resume auto")


def not_finite(steps: int, ids: Sequence[str], checkpoint: Path | None) -> EventideError:
    """The message when `steps` steps in a row had a loss or gradient that is not finite."""
    return EventideError(
        f"training stopped: {steps} steps in a row had a loss or gradient that is NaN or infinite, with recordings "
        f"{name_some(ids)}. Reduce learning rate, check gradient clipping (opt.learning_rate, "
        f"train_cfg.clip_grad_l2norm). {_kept(checkpoint)}"
    )


def _remedy(what: str, sequences: int) -> str:
    if what == "evaluation":
        return "test_cfg.batch_size, or set test_cfg.chunk for windows"
    by_itself = ", or let train_cfg.auto_microbatch: true cut batches by itself" if sequences > 1 else ""
    return f"loader.batch_size and raise train_cfg.accum_steps, or lower dataset.max_seq_len{by_itself}"


def _kept(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "No checkpoint was written yet."
    return f"The last good checkpoint is {checkpoint}."
