"""Seconds, bytes and counts in the unit that suits them."""

from __future__ import annotations


def seconds_text(value: float | None) -> str:
    """A time; "-" where there is none."""
    if value is None:
        return "-"
    if value < 1e-3:
        return f"{value * 1e6:.3g} us"
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:.3g} s" if value < 1000 else f"{value:.0f} s"


def bytes_text(value: float | None) -> str:
    """A size in MiB or GiB; "-" where there is none."""
    if value is None:
        return "-"
    return f"{value / 2**20:.0f} MiB" if value < 10 * 2**30 else f"{value / 2**30:.1f} GiB"


def count_text(value: float | None) -> str:
    """A large number with a decimal prefix: 1.23 G; "-" where there is none."""
    if value is None:
        return "-"
    for factor, prefix in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor * 0.9995:
            return f"{value / factor:.3g}{prefix}"
    return f"{value:.3g}"


def percent_text(share: float | None) -> str:
    """A share in per cent; "-" where there is none."""
    return "-" if share is None else f"{100 * share:.3g}%"


def ratio_text(value: float | None) -> str:
    """A ratio as in "0.85x"; "-" where there is none."""
    return "-" if value is None else f"{value:.2f}x"
