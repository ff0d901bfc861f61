"""Learning rates against numbers of the published scheduler, and how micro-batches make steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.config import OptimConfig
from eventide.engine.schedule import Plan, learning_rate, teacher_share


def rates(plan: Plan, **opt: object) -> list[float]:
    config = OptimConfig.model_validate({"learning_rate": 0.1, **opt})
    return [learning_rate(step, plan, config) for step in range(plan.total_steps)]


# Each table was printed by the scheduler of the published ActionFormer code, stepped once per optimiser step.
PUBLISHED: list[tuple[str, Plan, dict[str, object], list[float]]] = [
    (
        "cosine after warm-up",
        Plan(4, 1, 3, 1),
        {},
        [
            0.0,
            0.0333333333333,
            0.0666666666667,
            0.1,
            0.1,
            0.0961939770062,
            0.0853553405238,
            0.0691341747048,
            0.050000005,
            0.0308658352952,
            0.0146446694762,
            0.00380603299383,
        ],
    ),
    (
        "cosine, long warm-up",
        Plan(2, 1, 5, 3),
        {},
        [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.0853553405238, 0.050000005, 0.0146446694762],
    ),
    ("cosine, one step of warm-up", Plan(1, 1, 5, 1), {}, [0.0, 0.1, 0.0853553405238, 0.050000005, 0.0146446694762]),
    (
        "multistep after warm-up",
        Plan(3, 1, 5, 1),
        {"schedule_type": "multistep", "schedule_steps": [1, 3], "schedule_gamma": 0.1},
        [0.0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001],
    ),
    (
        "cosine without warm-up",
        Plan(3, 1, 3, 0),
        {},
        [
            0.1,
            0.0969846310393,
            0.0883022221559,
            0.075,
            0.0586824088833,
            0.0413175911167,
            0.025,
            0.0116977778441,
            0.0030153689607,
        ],
    ),
]


@pytest.mark.parametrize(("label", "plan", "opt", "expected"), PUBLISHED, ids=[case[0] for case in PUBLISHED])
def test_rates_are_the_published_ones(label: str, plan: Plan, opt: dict[str, object], expected: list[float]) -> None:
    assert rates(plan, **opt) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_warm_up_of_no_epochs_starts_at_the_peak() -> None:
    assert rates(Plan(3, 1, 2, 0))[0] == 0.1


def test_warm_up_only() -> None:
    assert rates(Plan(2, 1, 1, 1)) == [0.0, 0.1]


def test_a_warm_up_of_one_step() -> None:
    assert rates(Plan(1, 1, 3, 1))[:2] == [0.0, 0.1]


def test_multistep_drops_add_up_and_may_be_unsorted() -> None:
    got = rates(Plan(1, 1, 5, 1), schedule_type="multistep", schedule_steps=[3, 1, 3], schedule_gamma=0.5)
    assert got == pytest.approx([0.0, 0.1, 0.05, 0.05, 0.0125])


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 4))
def test_no_two_batches_of_a_run_have_one_number(batches: int, per_step: int, epochs: int) -> None:
    plan = Plan(batches, per_step, epochs, 0)
    numbers = [plan.first_batch(step) + batch for step in range(plan.total_steps) for batch in range(per_step)]
    assert numbers == list(range(per_step * plan.total_steps))
    assert plan.steps_per_epoch == math.ceil(batches / per_step)


def test_a_scaled_rate_is_so_many_times_as_large() -> None:
    plan = Plan(4, 3, 6, 2)
    assert rates(replace(plan, rate_scale=3.0)) == pytest.approx([3 * rate for rate in rates(plan)], abs=1e-7)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (9, 0.0), (10, 0.0), (15, 0.2), (20, 0.4), (30, 0.8), (31, 0.8), (99, 0.8)],
)
def test_the_share_of_the_averaged_model_rises_once_it_knows_something(step: int, expected: float) -> None:
    assert teacher_share(step, Plan(10, 1, 10, 1), 0.8) == pytest.approx(expected)


def test_no_share_stays_none() -> None:
    assert {teacher_share(step, Plan(10, 1, 3, 0), 0.0) for step in range(30)} == {0.0}
