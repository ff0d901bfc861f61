"""Random windows: the laws they keep, and scripted cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.data import augment
from eventide.data.augment import Window


class Scripted:
    """A generator that answers with given numbers and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), []

    def integers(self, low: int, high: int, size: int | None = None) -> object:
        self.asked.append((low, high, size))
        return self.answers.pop(0)


def rng(*place: int) -> np.random.Generator:
    return augment.generator_for(5, augment.SAMPLE_STREAM, *place)


def segments_of(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 2)


def test_generators_depend_on_their_place_alone() -> None:
    draws = {
        (seed, stream, *place): tuple(augment.generator_for(seed, stream, *place).integers(0, 2**60, 3))
        for seed in (0, 1, 2**63 - 1)
        for stream in (0, 1)
        for place in ((0,), (0, 0), (0, 1), (1, 0))
    }
    assert len(set(draws.values())) == len(draws)
    np.random.seed(0)  # noqa: NPY002  # global state has no say
    assert draws[(1, 1, 0, 1)] == tuple(augment.generator_for(1, 1, 0, 1).integers(0, 2**60, 3))


WINDOW_LENGTHS = [
    pytest.param(100, 64, None, None, 64, id="longer is cut to the limit"),
    pytest.param(100, 64, (0.5, 0.6), None, 64, id="longer: the crop has no say"),
    pytest.param(64, 64, None, None, 64, id="as long as the limit"),
    pytest.param(30, 64, None, None, 30, id="shorter, no crop"),
    pytest.param(30, 64, (0.5, 1.0), (15, 31), 22, id="shorter, cropped"),
    pytest.param(25, 64, (0.5, 0.9), (12, 23), 22, id="halves are rounded to even"),
    pytest.param(1, 64, (0.1, 0.2), (1, 2), 1, id="one vector is kept"),
    pytest.param(1, 64, (0.9, 1.0), (1, 2), 1, id="one vector"),
]


@pytest.mark.parametrize(("length", "limit", "ratio", "asked", "size"), WINDOW_LENGTHS)
def test_window_length(
    length: int, limit: int, ratio: tuple[float, float] | None, asked: tuple[int, int] | None, size: int
) -> None:
    script = Scripted(size)
    assert augment.window_length(length, limit, ratio, script) == size  # type: ignore[arg-type]
    assert script.asked == ([] if asked is None else [(*asked, None)])


def test_a_scripted_truncation() -> None:
    """20 vectors, windows of 8, vectors reach 0.5 beyond their position: the third try keeps half of an event."""
    events = segments_of((1, 3), (9, 13), (10, 22))
    starts = np.array([3, 5, 6, 0])
    script = Scripted(starts)
    # From 3: window 2.5..11.5 keeps 0.25 of the first and 0.625 of the second: enough at once.
    window = augment.choose_window(20, 8, events, trunc_thresh=0.5, offset=0.5, rng=script)  # type: ignore[arg-type]
    assert window == Window(3, 11)
    assert script.asked == [(0, 13, augment.MAX_TRIALS)]
    shares = augment.kept_shares(events, starts, 8, 0.5)
    np.testing.assert_allclose(
        shares, [[0.25, 0.625, 1.5 / 12], [0, 1, 3.5 / 12], [0, 1, 4.5 / 12], [1, 0, 0]], rtol=1e-6
    )
    # With a threshold of 0.7 the first window is refused; the second keeps the second event whole, on its own grid.
    strict = Scripted(starts)
    window = augment.choose_window(20, 8, events, trunc_thresh=0.7, offset=0.5, rng=strict)  # type: ignore[arg-type]
    assert window == Window(5, 13)
    kept, label_ids = augment.cut_to_window(events, np.array([4, 5, 6]), window, trunc_thresh=0.7, offset=0.5)
    assert kept.tolist() == [[4, 8]]
    assert label_ids.tolist() == [5]
    # Clipped where it leaves the window, offset included: 4.5 to 13.5, minus 5.
    kept, label_ids = augment.cut_to_window(events, np.array([4, 5, 6]), window, trunc_thresh=0.2, offset=0.5)
    assert kept.tolist() == [[4, 8], [5, 8.5]]
    assert label_ids.tolist() == [5, 6]


def test_when_no_window_holds_enough_of_an_event_the_last_try_is_taken() -> None:
    script = Scripted(np.array([2, 7, 4]))
    events = segments_of((0, 100))
    window = augment.choose_window(100, 10, events, trunc_thresh=0.5, offset=0.0, rng=script)  # type: ignore[arg-type]
    assert window == Window(4, 14)
    assert len(augment.cut_to_window(events, np.array([0]), window, trunc_thresh=0.5, offset=0.0)[0]) == 0


def test_recordings_without_events_are_cut_too() -> None:
    script = Scripted(np.array([9]))
    window = augment.choose_window(20, 8, segments_of(), trunc_thresh=0.5, offset=0.5, rng=script)  # type: ignore[arg-type]
    assert window == Window(9, 17)
    assert script.asked == [(0, 13, 1)]
    kept, label_ids = augment.cut_to_window(segments_of(), np.zeros(0, np.int64), window, trunc_thresh=0.5, offset=0.5)
    assert kept.shape == (0, 2)
    assert label_ids.shape == (0,)


EVENTS = st.lists(st.tuples(st.floats(-2, 60, width=32), st.floats(0.125, 30, width=32)), max_size=6)


@given(events=EVENTS, length=st.integers(1, 70), size=st.integers(1, 70), thresh=st.floats(0.1, 1), seed=st.integers(0))
def test_laws_of_truncation(
    events: list[tuple[float, float]], length: int, size: int, thresh: float, seed: int
) -> None:
    segments = segments_of(*((start, start + duration) for start, duration in events))
    label_ids = np.arange(len(segments))
    window = augment.choose_window(length, size, segments, trunc_thresh=thresh, offset=0.5, rng=rng(seed))
    assert 0 <= window.start < window.stop <= length
    assert window.stop - window.start == min(size, length)
    kept, kept_ids = augment.cut_to_window(segments, label_ids, window, trunc_thresh=thresh, offset=0.5)
    assert kept.dtype == np.float32
    # Every event that is kept lies in the window (give or take the offset) and is what the window leaves of it.
    width = window.stop - window.start
    assert (kept >= -0.5).all()
    assert (kept <= width + 0.5).all()
    original = segments[kept_ids]
    shares = (kept[:, 1] - kept[:, 0]) / (original[:, 1] - original[:, 0])
    assert (shares >= thresh - 1e-4).all()
    clipped = np.clip(original - window.start, -0.5, width + 0.5)
    np.testing.assert_allclose(kept, clipped, atol=1e-4)
    # And every event that is not kept would have lost too much.
    lost = np.setdiff1d(label_ids, kept_ids)
    gone = np.clip(segments[lost] - window.start, -0.5, width + 0.5)
    assert ((gone[:, 1] - gone[:, 0]) / (segments[lost, 1] - segments[lost, 0]) < thresh + 1e-4).all()


def test_windows_are_uniform_among_those_that_hold_an_event() -> None:
    """One event at 10 to 14 in 40 vectors, windows of 8: starts 4 to 12 keep half of it, each equally often."""
    events = segments_of((10, 14))
    starts = [
        augment.choose_window(40, 8, events, trunc_thresh=0.5, offset=0.0, rng=rng(0, index)).start
        for index in range(4500)
    ]
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == list(range(4, 13))
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all()


CLIPS = [
    pytest.param((2, 6), [2, 6], id="inside"),
    pytest.param((8, 12), [8, 10.5], id="cut off, enough left"),
    pytest.param((9, 14), None, id="too little left"),
    pytest.param((8.5, 12.5), [8.5, 10.5], id="exactly the threshold"),
    pytest.param((10.5, 12), None, id="starts at the end"),
    pytest.param((-3, 4), [-3, 4], id="a start before the grid stays"),
]


@pytest.mark.parametrize(("event", "expected"), CLIPS)
def test_clip_to_grid(event: tuple[float, float], expected: list[float] | None) -> None:
    """A grid of 10 vectors that reaches to 10.5."""
    kept, label_ids = augment.clip_to_grid(segments_of(event), np.array([3]), 10, trunc_thresh=0.5, offset=0.5)
    assert kept.tolist() == ([] if expected is None else [expected])
    assert label_ids.tolist() == ([] if expected is None else [3])
    assert kept.dtype == np.float32


IN_WINDOWS = [
    pytest.param(3.0, [3], id="at a vector"),
    pytest.param(3.4, [3], id="nearer to the one before"),
    pytest.param(3.6, [4], id="nearer to the one after"),
    pytest.param(3.5, [3, 4], id="half-way"),
    pytest.param(-2.0, [0], id="before the first"),
    pytest.param(12.0, [9], id="after the last"),
    pytest.param(9.4, [9], id="a little after the last"),
]


@pytest.mark.parametrize(("time", "vectors"), IN_WINDOWS)
def test_a_point_belongs_to_the_nearest_vector(time: float, vectors: list[int]) -> None:
    """Windows of one vector over a recording of 10."""
    inside = augment.points_in_windows(np.array([time]), np.arange(10), 1, 10)
    assert inside.shape == (10, 1)
    assert np.flatnonzero(inside).tolist() == vectors


@given(
    times=st.lists(st.floats(-3, 75), max_size=6),
    length=st.integers(1, 70),
    size=st.integers(1, 70),
    seed=st.integers(0),
)
def test_laws_of_windows_of_points(times: list[float], length: int, size: int, seed: int) -> None:
    """A window that can hold a point does, points keep their place and width, and windows side by side lose none."""
    middle, reach = np.array(times), np.arange(len(times)) / 3
    ranges = np.stack((middle - reach, middle + reach), axis=1)
    window = augment.choose_window_of_points(length, size, middle, rng=rng(seed))
    assert 0 <= window.start < window.stop <= length
    assert window.stop - window.start == min(size, length)
    kept, kept_ids = augment.cut_points_to_window(ranges, np.arange(len(times)), window, length)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, ranges[kept_ids] - window.start, atol=1e-4)
    width = window.stop - window.start
    nearest = np.clip(middle, 0, length - 1) - window.start
    inside = (nearest >= -0.5) & (nearest <= width - 0.5)
    assert kept_ids.tolist() == np.flatnonzero(inside).tolist()
    side_by_side = augment.points_in_windows(middle, np.arange(0, length, size), size, length)
    assert side_by_side.any(axis=0).all()


def test_windows_of_points_are_uniform_among_those_that_hold_one() -> None:
    """A point at 12.2 in 40 vectors, windows of 8: starts 5 to 12 hold vector 12, each equally often."""
    starts = [
        augment.choose_window_of_points(40, 8, np.array([12.2]), rng=rng(1, index)).start for index in range(4000)
    ]
    values, counts = np.unique(starts, return_counts=True)
    assert values.tolist() == list(range(5, 13))
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all()


def test_windows_without_points_are_any_windows() -> None:
    script = Scripted(np.array([9]))
    assert augment.choose_window_of_points(20, 8, np.zeros(0), rng=script) == Window(9, 17)  # type: ignore[arg-type]
    assert script.asked == [(0, 13, 1)]
    assert augment.choose_window_of_points(8, 8, np.array([3.0]), rng=Scripted()) == Window(0, 8)  # type: ignore[arg-type]


def test_the_last_try_is_taken_where_no_window_holds_a_point() -> None:
    script = Scripted(np.array([2, 7, 4]))
    window = augment.choose_window_of_points(100, 10, np.array([50.0]), rng=script)  # type: ignore[arg-type]
    assert window == Window(4, 14)
    kept, label_ids = augment.cut_points_to_window(np.array([[50.0, 50.0]]), np.array([3]), window, 100)
    assert kept.shape == (0, 2)
    assert len(label_ids) == 0
