"""How a measurement is planned."""

from __future__ import annotations

import pytest
import torch

from eventide.engine.measure.plan import MeasureOptions, Turns, machine, warm_up_rounds


@pytest.mark.parametrize(
    ("given", "device", "rounds"),
    [(None, "cpu", 1), (None, "cuda", 3), (None, "mps", 3), (0, "cuda", 0), (2, "cpu", 2)],
)
def test_rounds_before_those_that_count(given: int | None, device: str, rounds: int) -> None:
    assert warm_up_rounds(MeasureOptions(warm_up=given), torch.device(device)) == rounds


def test_turns_count() -> None:
    said: list[tuple[str, str, int, int]] = []
    turns = Turns(2, lambda *values: said.append(values))
    turns("a", "x")
    turns("b", "y")
    turns.finish()
    assert said == [("a", "x", 0, 2), ("b", "y", 1, 2), ("done", "", 2, 2)]


def test_machine_names_what_was_measured_on() -> None:
    found = machine(torch.device("cpu"))
    assert found["device"] == "cpu"
    assert found["device_name"]
    assert found["threads"] == torch.get_num_threads()
