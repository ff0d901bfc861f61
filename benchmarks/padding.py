"""Share of padding in the training batches of each `loader.batching`, on recordings of very unequal length.

python -m benchmarks.padding [--recordings N] [--max-seq-len N]

Nothing is timed and nothing is random but for fixed seeds: the table is the same everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eventide.config import DEFAULT_MAX_SEQ_LEN
from eventide.data.batching import Batching, BatchPlan
from eventide.engine.compiling import LENGTHS_TO_TRY

EPOCHS = 5
BATCH_SIZES = (2, 4, 8, 16)
WAYS: list[tuple[str, Batching, int | None]] = [  # the numbers of lengths are those that a compiled training tries
    ("fixed (published)", "fixed", None),
    ("longest", "longest", None),
    ("longest, 8 lengths", "longest", 8),
    ("bucketed", "bucketed", None),
    *((f"bucketed, {count} lengths", "bucketed", count) for count in reversed(LENGTHS_TO_TRY)),
]


@dataclass(frozen=True)
class Distribution:
    """Lengths of recordings (vectors), float, before the cut to max_seq_len."""

    name: str
    draw: Callable[[np.random.Generator, int], np.ndarray]


DISTRIBUTIONS = [
    Distribution("log-normal, median 400, sigma 1", lambda rng, count: np.exp(rng.normal(np.log(400), 1.0, count))),
    Distribution("Pareto, shortest 100, exponent 1.5", lambda rng, count: 100 * (1 + rng.pareto(1.5, count))),
]


def padding_share(lengths: np.ndarray, batch_size: int, way: Batching, num_lengths: int | None, limit: int) -> float:
    """Share of padding over some epochs of recordings of `lengths` (count,) int64, cut to `limit`."""
    sizes = np.minimum(lengths, limit)
    plan = BatchPlan(
        count=len(sizes),
        batch_size=batch_size,
        drop_last=False,
        seed=0,
        batching=way,
        num_lengths=num_lengths,
        max_seq_len=limit,
        sample_lengths=lambda epoch: sizes,
        longest_sample=lambda: int(sizes.max()),
    )
    return float(np.mean([plan.padding_share(epoch) for epoch in range(EPOCHS)]))


def table(lengths: np.ndarray, limit: int) -> list[str]:
    """Lines of a Markdown table: one per way, one column per batch size."""
    head = ["loader.batching", *(f"batch {size}" for size in BATCH_SIZES)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["---:"] * len(BATCH_SIZES)) + " |"]
    for name, way, num_lengths in WAYS:
        shares = (padding_share(lengths, size, way, num_lengths, limit) for size in BATCH_SIZES)
        lines.append("| " + " | ".join([name, *(f"{share:.1%}" for share in shares)]) + " |")
    return lines


def main() -> None:
    """Print a table per distribution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=2000, help="recordings of the data set (%(default)s)")
    parser.add_argument("--max-seq-len", type=int, default=DEFAULT_MAX_SEQ_LEN, help="longest sample (%(default)s)")
    options = parser.parse_args()
    for number, distribution in enumerate(DISTRIBUTIONS):
        drawn = distribution.draw(np.random.default_rng(number), options.recordings)
        lengths = np.maximum(drawn.round().astype(np.int64), 1)
        middle, most = int(np.median(lengths)), int(lengths.max())
        print(
            f"\n{distribution.name}: {len(lengths)} recordings, median {middle}, longest {most} vectors, cut to ",
            end="",
        )
        print(f"{options.max_seq_len}. Padded vectors / all vectors, mean of {EPOCHS} epochs:\n")
        print("\n".join(table(lengths, options.max_seq_len)))


if __name__ == "__main__":
    main()
