"""Rows, fits and turns: the arithmetic of a measurement, without measuring."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from eventide.engine.measure.operations import Operations
from eventide.engine.measure.results import Memory, Row, Timing
from eventide.engine.measure.scaling import fit_line, fit_rows
from eventide.engine.measure.turns import OUT_OF_MEMORY, Job, run_in_turn

LENGTHS = [1000, 10_000, 100_000]


def test_an_empty_row_has_no_numbers() -> None:
    row = Row("inference", 10, 1)
    values = row.to_dict(1e9)
    assert values["runs"] == 0
    assert {values[key] for key in ("seconds", "operations", "memory_bytes", "matrix_rate_share", "error")} == {None}
    assert row.name == "inference, T = 10, batch 1"


@pytest.mark.parametrize(
    ("label", "seconds", "median"),
    [("one", [2.0], 2.0), ("odd", [9.0, 1.0, 2.0], 2.0), ("even", [1.0, 2.0, 4.0, 9.0], 3.0), ("ties", [1, 1, 5], 1.0)],
)
def test_median(label: str, seconds: list[float], median: float) -> None:
    row = Row("training", 10, 2, timings=[Timing(value) for value in seconds])
    assert row.seconds == median
    values = row.to_dict()
    assert values["runs"] == len(seconds)
    assert values["fastest_seconds"] == min(seconds)
    assert values["recordings_per_second"] == pytest.approx(2 / median)
    assert values["vectors_per_second"] == pytest.approx(20 / median)
    assert values["network_seconds"] is None


def test_shares() -> None:
    row = Row("inference", 100, 2, Operations(1000, 250, 50), Memory(5, 9), [Timing(4.0, 2.0, 0.5)])
    values = row.to_dict(matrix_rate=1000.0)
    assert values["operations_per_recording"] == 500
    assert values["attention_operations_share"] == 0.25
    assert values["product_operations_share"] == 0.05
    assert values["attention_time_share"] == 0.25
    assert values["operations_per_second"] == 500  # of the network's time: suppression multiplies no matrices
    assert values["matrix_rate_share"] == 0.5
    assert (values["memory_bytes"], values["memory_in_all_bytes"]) == (5, 9)


def test_no_operations_is_no_share_and_no_division() -> None:
    values = Row("training", 1, 1, Operations(0, 0, 0), timings=[Timing(1.0)]).to_dict(0.0)
    assert values["attention_operations_share"] == 0
    assert values["matrix_rate_share"] is None


@pytest.mark.parametrize(
    ("label", "cost", "slope", "exponent", "exact"),
    [
        ("linear", lambda t: 3.0 * t, 3.0, 1.0, True),
        ("linear with a start", lambda t: 2.0 * t + 500.0, 2.0, None, True),
        ("constant", lambda t: 7.0, 0.0, 0.0, True),
        ("quadratic", lambda t: 1e-3 * t * t, None, 2.0, False),
    ],
)
def test_fit(
    label: str, cost: Callable[[int], float], slope: float | None, exponent: float | None, exact: bool
) -> None:
    fit = fit_line(LENGTHS, [cost(length) for length in LENGTHS])
    assert fit is not None
    if slope is not None:
        assert fit.slope == pytest.approx(slope, abs=1e-9)
    if exponent is not None and fit.exponent is not None:
        assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert (fit.r_squared > 1 - 1e-9) == exact
    assert fit.points == 3


@pytest.mark.parametrize(
    ("label", "lengths", "costs"),
    [
        ("none", [], []),
        ("one", [5], [1.0]),
        ("two", [5, 6], [1.0, 2.0]),
        ("one length thrice", [5, 5, 5], [1.0, 2.0, 3]),
    ],
)
def test_a_line_needs_three_lengths(label: str, lengths: list[int], costs: list[float]) -> None:
    assert fit_line(lengths, costs) is None


def test_a_cost_of_zero_has_no_exponent() -> None:
    fit = fit_line([1, 2, 3], [0.0, 1.0, 2.0])
    assert fit is not None
    assert fit.exponent is None
    assert fit.slope == pytest.approx(1.0)


def test_fits_are_apart_by_work_and_batch() -> None:
    rows = [Row("inference", t, 1, None, Memory(4 * t, 0), [Timing(2.0 * t)]) for t in LENGTHS]
    rows += [Row("inference", t, 2, None, None, [Timing(1.0)]) for t in LENGTHS[:2]]
    rows += [Row("training", t, 2, timings=[Timing(1.0)]) for t in LENGTHS]
    found = {(fit["work"], fit["batch"], fit["quantity"]): fit["slope"] for fit in fit_rows(rows)}
    assert set(found) == {("inference", 1, "seconds"), ("inference", 1, "memory_bytes"), ("training", 2, "seconds")}
    assert found["inference", 1, "seconds"] == pytest.approx(2)
    assert found["inference", 1, "memory_bytes"] == pytest.approx(4)


def jobs_that_note(notes: list[str], *works: str) -> list[Job]:
    def work(name: str) -> Callable[[], Timing]:
        def run() -> Timing:
            notes.append(name)
            return Timing(float(len(notes)))

        return run

    return [Job(name, Row("training", 1, 1), work(name)) for name in works]


@pytest.mark.parametrize(
    ("runs", "warm_up", "order"), [(1, 0, "ab"), (2, 1, "ababab"), (3, 0, "ababab"), (1, 2, "ababab")]
)
def test_turns(runs: int, warm_up: int, order: str) -> None:
    notes: list[str] = []
    jobs = jobs_that_note(notes, "a", "b")
    phases: list[str] = []
    rounds: list[int] = []
    run_in_turn(jobs, runs, warm_up, lambda phase, what: phases.append(phase), lambda: rounds.append(len(notes)))
    assert "".join(notes) == order
    assert [len(job.row.timings) for job in jobs] == [runs, runs]
    assert phases.count("warm-up") == 2 * warm_up
    assert phases[-1] == f"round {runs} of {runs}"
    assert len(rounds) == runs


class TorchDynamoError(RuntimeError):
    """As the compiler raises them."""


TorchDynamoError.__module__ = "torch._dynamo.exc"


@pytest.mark.parametrize(
    ("label", "error", "reason"),
    [
        ("memory", MemoryError(), OUT_OF_MEMORY),
        ("allocator", RuntimeError("DefaultCPUAllocator: can't allocate memory"), OUT_OF_MEMORY),
        ("device", torch.OutOfMemoryError("CUDA out of memory"), OUT_OF_MEMORY),
        ("compiler", TorchDynamoError("no such thing\nmore"), "not available: torch.compile failed: "),
    ],
)
def test_a_job_that_fails_is_left_out(label: str, error: Exception, reason: str) -> None:
    notes: list[str] = []
    jobs = jobs_that_note(notes, "a", "b")

    def fail() -> Timing:
        raise error

    jobs[0].run = fail
    said: list[str] = []
    run_in_turn(jobs, 2, 1, lambda phase, what: said.append(what), lambda: None)
    assert (jobs[0].row.error or "").startswith(reason)
    assert jobs[0].row.timings == []
    assert notes == ["b"] * 3
    assert said.count("a: left out") == 2


def test_other_errors_are_not_hidden() -> None:
    jobs = jobs_that_note([], "a")

    def fail() -> Timing:
        raise RuntimeError("shapes do not fit")

    jobs[0].run = fail
    with pytest.raises(RuntimeError, match="shapes"):
        run_in_turn(jobs, 1, 0, lambda phase, what: None, lambda: None)


def test_interrupted_turns_keep_what_there_is() -> None:
    notes: list[str] = []
    jobs = jobs_that_note(notes, "a", "b")

    def stop(phase: str, what: str) -> None:
        if phase == "round 2 of 5" and what == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_turn(jobs, 5, 0, stop, lambda: None)
    assert [len(job.row.timings) for job in jobs] == [2, 1]
    assert not any(math.isnan(timing.whole) for job in jobs for timing in job.row.timings)
