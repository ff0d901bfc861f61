"""Thresholds, tolerances and windows under which published results are reported."""

from __future__ import annotations

import numpy as np

from eventide.types import UsageError

PROTOCOLS: dict[str, np.ndarray] = {
    "thumos": np.linspace(0.3, 0.7, 5),
    "activitynet": np.linspace(0.5, 0.95, 10),
    "epic": np.linspace(0.1, 0.5, 5),
    "ego4d": np.linspace(0.1, 0.5, 5),
}
# SoccerNet's average-mAP: windows in seconds, from half of it before an event to half of it after
SOCCERNET: dict[str, np.ndarray] = {
    "soccernet-tight": np.arange(1.0, 6.0),
    "soccernet-loose": np.arange(5.0, 61.0, 5.0),
}


def thresholds_of(protocol: str | None, tiou: list[float] | None) -> np.ndarray:
    """The thresholds of a protocol, or those given, in rising order.

    Raises:
        UsageError: neither or both are given, the protocol is unknown, or a threshold is not above 0 and up to 1.
    """
    if (protocol is None) == (not tiou):
        raise UsageError(
            f"give exactly one of --protocol ({', '.join(PROTOCOLS)}) and --tiou (thresholds such as 0.3 0.5)"
        )
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise UsageError(f"unknown protocol {protocol!r}; the protocols are {', '.join(PROTOCOLS)}")
        return PROTOCOLS[protocol]
    for value in tiou or []:
        if not 0 < value <= 1:
            raise UsageError(f"--tiou {value:g} is no overlap; thresholds lie above 0 and up to 1, such as 0.5")
    return np.unique(np.asarray(tiou, dtype=np.float64))
