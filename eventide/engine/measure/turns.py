"""Running several works in turn: neighbours in time see the same machine, whose speed drifts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventide.engine.compiling import compile_failure
from eventide.engine.guard import is_out_of_memory
from eventide.engine.measure.results import Row, Timing

OUT_OF_MEMORY = "out of memory"


def why_it_failed(error: BaseException) -> str | None:
    """What to write in place of a number where memory ran out or torch.compile failed; None for any other error."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    failure = compile_failure(error)
    return None if failure is None else f"not available: {failure}"


@dataclass
class Job:
    """A row and how to run it once."""

    name: str
    row: Row
    run: Callable[[], Timing]


def run_in_turn(
    jobs: Sequence[Job],
    runs: int,
    warm_up: int,
    on_turn: Callable[[str, str], None],
    between: Callable[[], object],
) -> None:
    """Runs all jobs once per round, `warm_up` rounds that do not count and `runs` that do.

    Timings go to the rows at once, so that an interruption loses nothing. A job whose memory runs out, or that
    torch.compile fails on, says so in its row and runs no more. `on_turn` gets the name of the round and of the job;
    `between` is called before each round that counts.
    """
    for number in range(-warm_up, runs):
        phase = f"round {number + 1} of {runs}" if number >= 0 else "warm-up"
        if number >= 0:
            between()
        for job in jobs:
            if job.row.error is not None:
                on_turn(phase, f"{job.name}: left out")
                continue
            on_turn(phase, job.name)
            try:
                timing = job.run()
            except (RuntimeError, MemoryError) as error:
                job.row.error = why_it_failed(error)
                if job.row.error is None:
                    raise
                continue
            if number >= 0:
                job.row.timings.append(timing)
