"""evaluation/soccernet.py: the numbers of the package SoccerNet, read from the JSON files that its evaluator reads.

The comparison needs the package (`pip install --no-deps SoccerNet tqdm`); numbers that it printed are kept here, too.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventide.evaluation.events import GroundTruth, Predictions
from eventide.evaluation.protocols import SOCCERNET
from eventide.evaluation.soccernet import soccernet_average_map

CLASSES = ["Goal", "Corner", "Foul", "Penalty"]
# average-mAP of the package (0.2.0) for the games of each seed, tight and loose
PRINTED: dict[int, tuple[float, float]] = {
    0: (0.18668720924173005, 0.5082783470632672),
    1: (0.14780511041070551, 0.47180912496874067),
    2: (0.10561442924553908, 0.35942679439761666),
}


class Event(NamedTuple):
    """A detection, or (score 1) an annotated event."""

    game: str
    half: int
    milliseconds: int
    label: str
    score: float = 1.0


def make_games(seed: int) -> tuple[list[Event], list[Event]]:
    """Annotated and detected events of three games: crowded, with ties, frames with several, and empty halves."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for game in ("one", "two", "three"):
        for half in (1, 2) if game != "three" else (2,):
            end = int(random.choice([60_000, 2_700_000, 7_300_000]))  # the last one is beyond what is looked at
            for label in CLASSES[: int(random.integers(1, 5))]:
                times = random.integers(0, end, int(random.integers(1, 25)))
                truth += [Event(game, half, int(t), label) for t in times]
                near = np.concatenate([times + random.normal(0, 4000, len(times)), random.uniform(0, end, 20)])
                scores = random.choice(np.round(random.uniform(0, 1, 9), 3), len(near))
                scores = np.where(random.uniform(size=len(near)) < 0.6, random.uniform(0, 1, len(near)), scores)
                rows = zip(np.maximum(near, 0).astype(int).tolist(), scores.tolist(), strict=True)
                found += [Event(game, half, t, label, score) for t, score in rows if label != "Penalty"]
    return truth, [found[i] for i in random.permutation(len(found))]


def columns(events: list[Event]) -> dict[str, Any]:
    """The events as the evaluator takes them: a recording is half a game."""
    names = sorted({f"{game}/{half}" for game in ("one", "two", "three") for half in (1, 2)})
    seconds = np.array([event.milliseconds / 1000 for event in events], np.float64)
    return {
        "recordings": names,
        "recording_index": np.array([names.index(f"{event.game}/{event.half}") for event in events], np.int64),
        "segments": np.stack([seconds, seconds], axis=1),
        "label_ids": np.array([CLASSES.index(event.label) for event in events], np.int64),
        "kind": "points",
    }


def both(truth: list[Event], found: list[Event]) -> tuple[GroundTruth, Predictions]:
    scores = np.array([event.score for event in found], np.float64)
    return GroundTruth(**columns(truth)), Predictions(**columns(found), scores=scores)


def write_games(folder: Path, truth: list[Event], found: list[Event]) -> None:
    """The two JSON files of every game, as SoccerNet lays them out."""
    for game in sorted({event.game for event in truth}):
        labels = [
            {
                "gameTime": f"{e.half} - 00:00",
                "label": e.label,
                "position": str(e.milliseconds),
                "visibility": "visible",
            }
            for e in truth
            if e.game == game
        ]
        detections = [
            {"half": str(e.half), "label": e.label, "position": str(e.milliseconds), "confidence": e.score}
            for e in found
            if e.game == game
        ]
        for kind, content in (("labels", {"annotations": labels}), ("found", {"predictions": detections})):
            (folder / kind / game).mkdir(parents=True)
            (folder / kind / game / "events.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_package(tmp_path: Path, seed: int) -> None:
    spotting = pytest.importorskip("SoccerNet.Evaluation.ActionSpotting", reason="the package SoccerNet is missing")
    truth, found = make_games(seed)
    write_games(tmp_path, truth, found)
    present = sorted({event.label for event in truth}, key=CLASSES.index)
    for metric in ("tight", "loose"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = spotting.evaluate(
                str(tmp_path / "labels"),
                str(tmp_path / "found"),
                prediction_file="events.json",
                label_files="events.json",
                dataset=None,
                metric=metric,
                EVENT_DICTIONARY={label: i for i, label in enumerate(present)},
            )
        ours = soccernet_average_map(*both(truth, found), SOCCERNET[f"soccernet-{metric}"])
        assert ours.average_mAP == pytest.approx(theirs["a_mAP"], abs=1e-12)
        assert ours.average_AP.tolist() == pytest.approx(theirs["a_mAP_per_class"], abs=1e-12)


@pytest.mark.parametrize("seed", PRINTED)
def test_equals_what_the_package_printed(seed: int) -> None:
    games = both(*make_games(seed))
    for metric, printed in zip(("tight", "loose"), PRINTED[seed], strict=True):
        found = soccernet_average_map(*games, SOCCERNET[f"soccernet-{metric}"])
        assert found.average_mAP == pytest.approx(printed, abs=1e-12)


def one(*rows: tuple[float, float]) -> list[Event]:
    """Detections (seconds, score) of one class in one half."""
    return [Event("one", 1, int(1000 * time), "Goal", score) for time, score in rows]


@pytest.mark.parametrize(
    ("label", "truth", "found", "precision"),
    [
        ("exact", one((10, 1)), one((10, 0.9)), 1.0),
        ("half the window away", one((10, 1)), one((12, 0.9)), 1.0),
        ("one frame more", one((10, 1)), one((12.5, 0.9)), 0.0),
        ("within one frame of the edge", one((10.4, 1)), one((12.4, 0.9)), 1.0),
        ("another half", one((10, 1)), [Event("one", 2, 10_000, "Goal", 0.9)], 0.0),
        ("another class", one((10, 1)), [Event("one", 1, 10_000, "Foul", 0.9)], 0.0),
        ("the last in a frame counts", one((10, 1)), one((10.1, 0.9), (10.2, -1.0)), 0.0),
        ("the last in a frame counts, the other way", one((10, 1)), one((10.2, -1.0), (10.1, 0.9)), 1.0),
        ("events in one frame are one", one((10, 1), (10.3, 1)), one((10, 0.9)), 1.0),
        ("the better one is taken", one((10, 1)), one((10, 0.2), (11, 0.9)), 1.0),
        ("a false alarm above", one((10, 1)), one((10, 0.2), (50, 0.9)), 0.5),
        ("half of the events found", one((10, 1), (50, 1)), one((10, 0.9)), 6 / 11),
        ("a score above 1", one((10, 1)), one((10, 7.0)), 1.0),
        ("a score of 0 counts", one((10, 1)), one((10, 0.0)), 1.0),
        ("beyond two hours", one((7300, 1)), one((9000, 0.9)), 1.0),
        ("nothing found", one((10, 1)), [], 0.0),
        ("no events", [], one((10, 0.9)), 0.0),
        ("nothing at all", [], [], 0.0),
    ],
)
def test_small_cases(label: str, truth: list[Event], found: list[Event], precision: float) -> None:
    metrics = soccernet_average_map(*both(truth, found), [4.0])
    assert metrics.average_mAP == pytest.approx(precision)
    json.dumps(metrics.to_dict(), allow_nan=False)


def test_area_over_windows() -> None:
    truth, found = one((10, 1)), one((11, 0.9))  # found from a window of 2 s on
    metrics = soccernet_average_map(*both(truth, found), SOCCERNET["soccernet-tight"])
    assert metrics.mAP.tolist() == [0, 1, 1, 1, 1]
    assert metrics.average_mAP == pytest.approx((0.5 + 1 + 1 + 1) / 4)


@pytest.mark.parametrize("windows", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_windows_must_make_sense(windows: list[float]) -> None:
    with pytest.raises(ValueError, match="windows are finite"):
        soccernet_average_map(*both(one((1, 1)), []), windows)


@given(st.integers(0, 10**6))
def test_laws(seed: int) -> None:
    truth, found = make_games(seed)
    metrics = soccernet_average_map(*both(truth, found), [1.0, 5.0, 60.0])
    assert ((metrics.per_class_AP >= 0) & (metrics.per_class_AP <= 1)).all()
    assert 0 <= metrics.average_mAP <= 1
    perfect = soccernet_average_map(*both(truth, truth), [1.0, 5.0])
    assert perfect.average_mAP == pytest.approx(1.0)
