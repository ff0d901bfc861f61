"""Time and memory against the length of the sequence, on logarithmic axes, with the exponent of each curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eventide.report.figures import FAINT, class_colours, clear_frame, new_figure

UNITS = {"seconds": ("time (s)", 1.0), "memory_bytes": ("peak memory above weights and input (MiB)", 1.0 / 2**20)}


def draw_scaling(path: str | Path, content: Mapping[str, Any]) -> None:
    """Two panels from the JSON content of a measurement: seconds and MiB over vectors, one line per work and batch.

    Raises:
        UsageError: `path` is no picture file, or cannot be written.
    """
    with new_figure(path, 9.5, 4.8) as figure:
        for axes, quantity in zip(figure.subplots(1, 2), UNITS, strict=True):
            _draw_panel(axes, content, quantity)
        figure.suptitle(_caption(content), x=0.01, ha="left", fontsize=9.5)


def curves(content: Mapping[str, Any], quantity: str) -> dict[str, list[tuple[int, float]]]:
    """Points (length, cost) by name of the curve, by rising length; what was not measured is left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in content["rows"]:
        if row[quantity]:  # a cost of 0 has no place on a logarithmic axis
            found.setdefault(_name(row), []).append((row["length"], row[quantity]))
    return {name: sorted(points) for name, points in found.items()}


def _draw_panel(axes: Any, content: Mapping[str, Any], quantity: str) -> None:
    """One quantity."""
    label, factor = UNITS[quantity]
    drawn = curves(content, quantity)
    for (name, points), colour in zip(drawn.items(), class_colours(len(drawn)), strict=True):
        lengths, costs = [length for length, _ in points], [cost * factor for _, cost in points]
        note = _growth_note(content["fits"], quantity, name)
        axes.plot(lengths, costs, marker="o", markersize=4, linewidth=1.6, color=colour, label=f"{name}{note}")
    _set_logarithmic(axes)
    axes.set_xlabel("T (feature vectors)")
    axes.set_ylabel(label)
    axes.grid(True, which="major", color="#E4E6EA", linewidth=0.7)
    clear_frame(axes)
    if drawn:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.16), borderaxespad=0.0)
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=FAINT)


def _set_logarithmic(axes: Any) -> None:
    """Both axes, with plain numbers at 1, 2, 5, 10, ..."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelrotation=30)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['work']}, batch {row['batch']}"


def _growth_note(fits: Sequence[Mapping[str, Any]], quantity: str, name: str) -> str:
    """Exponent, the slope on these axes (1 is linear), and fit of a straight line, where there are lengths enough."""
    for fit in fits:
        if fit["quantity"] == quantity and _name(fit) == name and fit["exponent"] is not None:
            return f": exponent {fit['exponent']:.2f}, linear R² {fit['r_squared']:.4f}"
    return ""


def _caption(content: Mapping[str, Any]) -> str:
    return f"{content['config']}, {content['machine']['device_name']}, {content['precision']}"
