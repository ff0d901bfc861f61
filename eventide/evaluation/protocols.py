"""By which rule events are scored: tIoU thresholds, tolerances, or what published results are reported under."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eventide.types import EventKind, UsageError

# tIoU thresholds of segments
PROTOCOLS: dict[str, np.ndarray] = {
    "thumos": np.linspace(0.3, 0.7, 5),
    "activitynet": np.linspace(0.5, 0.95, 10),
    "epic": np.linspace(0.1, 0.5, 5),
    "ego4d": np.linspace(0.1, 0.5, 5),
}
# SoccerNet's average-mAP of points: windows in seconds, from half of it before an event to half of it after
SOCCERNET: dict[str, np.ndarray] = {
    "soccernet-tight": np.arange(1.0, 6.0),
    "soccernet-loose": np.arange(5.0, 61.0, 5.0),
}
TOLERANCES = np.array([0.25, 0.5, 1.0])  # seconds, of points where none are given

FOR_SEGMENTS = "--tiou (thresholds such as 0.3 0.5) or --protocol (thumos, activitynet, epic, ego4d)"
FOR_POINTS = (
    "--tolerance (seconds, such as 0.25 0.5 1), --tolerance-frames (such as 0 1 2) or "
    "--protocol (soccernet-tight, soccernet-loose)"
)


@dataclass(frozen=True)
class Rule:
    """How events of a kind are scored."""

    kind: EventKind
    measure: Literal["tiou", "seconds", "frames", "soccernet"]
    thresholds: np.ndarray  # (K,) tIoU, tolerances in seconds or frames, or windows in seconds
    option: str  # what the user gave, for messages


def choose_rule(
    protocol: str | None,
    tiou: list[float] | None,
    tolerance: list[float] | None,
    tolerance_frames: list[int] | None,
    kind: EventKind | None = None,
) -> Rule:
    """The rule that the options ask for; without any, points are scored at `TOLERANCES`.

    `kind` is that of the results, None where they do not say it.

    Raises:
        UsageError: options contradict one another, or hold what is no threshold or tolerance.
    """
    options = {
        "--protocol": protocol,
        "--tiou": tiou,
        "--tolerance": tolerance,
        "--tolerance-frames": tolerance_frames,
    }
    given = [name for name, value in options.items() if value]
    if len(given) > 1 and given != ["--protocol", "--tiou"]:
        raise UsageError(f"{' and '.join(given)} are different ways to score; give one of them")
    if tolerance:
        return Rule("points", "seconds", _tolerances(tolerance, "--tolerance", "seconds"), "--tolerance")
    if tolerance_frames:
        frames = _tolerances(tolerance_frames, "--tolerance-frames", "frames")
        return Rule("points", "frames", frames, "--tolerance-frames")
    if protocol in SOCCERNET and not tiou:
        return Rule("points", "soccernet", SOCCERNET[protocol], f"--protocol {protocol}")
    if not given and kind == "points":
        return Rule("points", "seconds", TOLERANCES, "--tolerance")
    option = f"--protocol {protocol}" if protocol else "--tiou"
    return Rule("segments", "tiou", thresholds_of(protocol, tiou), option)


def _tolerances(values: list[float] | list[int], option: str, unit: str) -> np.ndarray:
    """Tolerances in rising order."""
    for value in values:
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{option} {value:g} is no tolerance; give {unit} from 0 on")
    return np.unique(np.asarray(values, dtype=np.float64))


def thresholds_of(protocol: str | None, tiou: list[float] | None) -> np.ndarray:
    """The tIoU thresholds of a protocol, or those given, in rising order.

    Raises:
        UsageError: neither or both are given, the protocol is unknown, or a threshold is not above 0 and up to 1.
    """
    if (protocol is None) == (not tiou):
        raise UsageError(
            f"give exactly one of --protocol ({', '.join(PROTOCOLS)}) and --tiou (thresholds such as 0.3 0.5); "
            "point events are scored with --tolerance"
        )
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise UsageError(f"unknown protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")
        return PROTOCOLS[protocol]
    for value in tiou or []:
        if not 0 < value <= 1:
            raise UsageError(f"--tiou {value:g} is no overlap; thresholds lie above 0 and up to 1, such as 0.5")
    return np.unique(np.asarray(tiou, dtype=np.float64))
