"""What all figures share: colours, fonts, and writing a figure to a file. Matplotlib is imported only here."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventide.ops.files import replacing
from eventide.types import UsageError

ENDINGS = (".png", ".svg", ".pdf")
# colours that stay apart for colour-blind readers (Okabe and Ito, 2008), without black and yellow
FEW_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
INK, FAINT = "#222222", "#8A8F98"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.parse_math": False,  # a label with a dollar sign is text
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "eventide",  # the same figure gives the same file
}


def class_colours(number: int) -> list[str]:
    """One colour per class; up to 6 stay apart for every reader, more are spread over tone and lightness."""
    if number <= len(FEW_COLOURS):
        return list(FEW_COLOURS[:number])
    import matplotlib

    if number <= 20:
        table = matplotlib.colormaps["tab20"]
        order = [*range(0, 20, 2), *range(1, 20, 2)]
        return [_hex(table(order[i])) for i in range(number)]
    table = matplotlib.colormaps["hsv"]
    return [_hex(tuple(part * (0.62 if i % 2 else 0.85) for part in table(i / number)[:3])) for i in range(number)]


def _hex(colour: Sequence[float]) -> str:
    from matplotlib.colors import to_hex

    red, green, blue = colour[:3]
    return str(to_hex((red, green, blue)))


def check_ending(path: str | Path) -> None:
    """Refuse a file name that says no picture format.

    Raises:
        UsageError: the ending is not one of `ENDINGS`.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: a picture ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


@contextlib.contextmanager
def new_figure(path: str | Path, width: float, height: float) -> Iterator[Any]:
    """A figure of `width` x `height` inches, written to `path` (whole or not at all) at the end of the block.

    Raises:
        UsageError: the ending of the path is unknown, or it cannot be written.
    """
    check_ending(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        ending = Path(path).suffix.lower()
        metadata: dict[str, Any] = {"Date": None} if ending == ".svg" else {}
        if ending == ".pdf":
            metadata = {"CreationDate": None}
        with replacing(path) as temporary:
            figure.savefig(temporary, format=ending[1:], dpi=160, metadata=metadata)


def clear_frame(axes: Any, keep: Sequence[str] = ("left", "bottom")) -> None:
    """Leave only some sides of the frame."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
    axes.tick_params(length=3, width=0.8, color=FAINT)


def legend_text(label: str) -> str:
    """A label that a legend shows; matplotlib passes over those that begin with an underscore."""
    return f"\u200b{label}" if label.startswith("_") else label


def shortened(label: str, most: int = 32) -> str:
    """A label that fits beside a plot, on one line."""
    line = " ".join(label.split())
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"
