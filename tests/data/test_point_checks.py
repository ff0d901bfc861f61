"""Which point events of one class cannot both be found, against the peaks of the targets themselves."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from eventide.data.point_checks import close_pairs_warning
from eventide.ops.heatmap import peaks
from eventide.types import Recording, Timeline


@example([4.0, 5.4], 1, 40, False)  # 1.4 steps apart, at positions 4 and 5
@example([8.0, 10.8], 2, 40, False)  # the same of a heatmap half as fine
@given(
    st.lists(st.floats(0, 40), min_size=2, max_size=2), st.sampled_from([1, 2, 4]), st.integers(10, 40), st.booleans()
)
def test_the_warning_is_right_about_peaks(times: list[float], stride: int, length: int, one_class: bool) -> None:
    """A perfect model, which gives the targets themselves, finds both events exactly where there is no warning."""
    segments = np.repeat(np.array(times)[:, None], 2, axis=1)
    recording = Recording("r", "training", 1.0, None, segments, np.zeros(2, dtype=np.int64))
    warning = close_pairs_warning([(recording, Timeline(1.0, 1.0, 0.0), length)], stride, ["a"], one_class)
    last = -(-length // stride) - 1
    nearest = (torch.tensor(times, dtype=torch.float64) / stride).round().clamp(0, last).long()
    scores = torch.zeros(last + 1, 1)
    scores[nearest] = 1.0
    both = nearest[0] != nearest[1] and bool(peaks(scores)[nearest].all())
    assert both == (not warning)
