"""What every registered architecture must learn from one recording, without being named here."""

from __future__ import annotations

import pytest

from eventide.models import BUILDERS

from .making import small_config
from .overfitting import Lesson, average_precision, learn, worst_boundary

LESSON = Lesson(96, ((4.0, 9.5, 0), (20.0, 33.0, 1), (40.0, 80.0, 2), (86.0, 91.0, 0)))
OF_SEGMENTS = sorted(name for name in BUILDERS if small_config(name).dataset.events == "segments")


@pytest.mark.slow
@pytest.mark.parametrize("meta_arch", sorted(BUILDERS))
@pytest.mark.parametrize(
    ("backbone", "neck"),
    [
        ("conv", "fpn"),
        ("convTransformer", "identity"),
        ("convTransformer", "cs_fpn"),
        ("convTransformerv2", "cs_fpn"),
        ("convTransformerv2", "identity"),
    ],
)
def test_one_recording_is_learned(meta_arch: str, backbone: str, neck: str) -> None:
    """Its events are found exactly, before anything else."""
    changes = {"model__backbone_type": backbone, "model__fpn_type": neck, "model__backbone__n_embd": 32}
    config = small_config(meta_arch, **changes)
    _, found = learn(config, LESSON)
    assert average_precision(config, LESSON, found) == 1.0
    assert worst_boundary(LESSON, config, found) < 0.1
    count = len(LESSON.events)
    assert found.scores[count - 1] > 0.5 > found.scores[count:].max(initial=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["convTransformer", "convTransformerv2"])
@pytest.mark.parametrize("meta_arch", OF_SEGMENTS)
def test_an_event_far_longer_than_all_finite_ranges_is_learned(meta_arch: str, backbone: str) -> None:
    """Nothing limits what the last level can say, whose range is open."""
    config = small_config(meta_arch, model__backbone_type=backbone, model__backbone__n_embd=32)
    last_finite = (config.model.regression_range or [])[-2][1]
    length = 10 * last_finite
    lesson = Lesson(192, ((30.0, 30.0 + length, 0), (4.0, 7.0, 1), (150.0, 156.0, 2)))
    _, found = learn(config, lesson)
    assert worst_boundary(lesson, config, found) < 0.1
    assert average_precision(config, lesson, found) == 1.0
