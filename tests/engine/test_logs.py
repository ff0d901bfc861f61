"""Curves of a run that was begun again, or goes on: only what led to its present state is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from eventide.engine.logs import TensorBoard


@pytest.mark.parametrize(("step", "kept"), [(0, []), (10, [10]), (15, [10]), (30, [10, 20, 30])])
def test_curves_show_nothing_of_an_attempt_beyond_where_the_run_goes_on(
    tmp_path: Path, step: int, kept: list[int]
) -> None:
    """Also not of one that was killed before its first checkpoint."""
    for start, points, value in ((0, (10, 20, 30), 1.0), (step, (step + 1, step + 11), 2.0)):
        curves = TensorBoard(tmp_path / "tensorboard", start, lambda text: None)
        for point in points:
            curves.write({"train/loss": value}, point)
        curves.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    found = [(event.step, event.value) for event in read.Scalars("train/loss")]
    assert found == [*((point, 1.0) for point in kept), (step + 1, 2.0), (step + 11, 2.0)]
