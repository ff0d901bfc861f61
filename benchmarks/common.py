"""What every benchmark uses: timing in turn, medians and ratios, and the published implementation from a checkout.

The published code is never a dependency: `--published PATH` names a checkout of happyharrycn/actionformer_release
outside the project. It is run as it is, with two repairs that it needs on today's libraries: `numpy.float` is put back,
and its C++ NMS is built (with its own flags) into a cache folder outside the project and the checkout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours and theirs, run in turn; `theirs` is None where no checkout was given."""

    label: str
    ours_median: float
    theirs_median: float | None
    ratio: float | None  # ours / theirs, of the medians
    runs: int
    ours_cold: float  # the first call in this process, loading and compiling included
    theirs_cold: float | None
    ours_fastest: float
    theirs_fastest: float | None
    target: float | None = None  # the ratio aimed at

    def row(self) -> list[str]:
        """Cells of the table."""
        return [
            self.label,
            seconds(self.ours_median),
            seconds(self.theirs_median),
            "-" if self.ratio is None else f"{self.ratio:.4f}" if self.ratio < 0.1 else f"{self.ratio:.3f}",
            "-" if self.target is None else f"{self.target:g}",
            str(self.runs),
            seconds(self.ours_cold),
            seconds(self.theirs_cold),
        ]


HEADER = ["what", "ours", "theirs", "ours/theirs", "at most", "runs", "ours, first call", "theirs, first call"]


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return "-"
    if value < 1e-3:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def timed(work: Work) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    label: str, ours: Work, theirs: Work | None, runs: int, target: float | None = None, warm_up: int = 1
) -> Comparison:
    """Time both in turn, `runs` times each, after one cold call and `warm_up` warm ones of each.

    In turn, because the speed of a shared machine drifts: neighbours in time see the same machine.
    """
    ours_cold = timed(ours)
    theirs_cold = None if theirs is None else timed(theirs)
    for _ in range(warm_up):
        ours()
        if theirs is not None:
            theirs()
    own: list[float] = []
    other: list[float] = []
    for _ in range(runs):
        own.append(timed(ours))
        if theirs is not None:
            other.append(timed(theirs))
    median = statistics.median(own)
    other_median = statistics.median(other) if other else None
    return Comparison(
        label=label,
        ours_median=median,
        theirs_median=other_median,
        ratio=None if other_median is None else median / other_median,
        runs=runs,
        ours_cold=ours_cold,
        theirs_cold=theirs_cold,
        ours_fastest=min(own),
        theirs_fastest=min(other) if other else None,
        target=target,
    )


def arguments(description: str | None, runs: int) -> argparse.ArgumentParser:
    """The options every benchmark has; more can be added to it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--published", metavar="PATH", help="checkout of actionformer_release to run beside ours")
    parser.add_argument("--runs", type=int, default=runs, help=f"timed runs of each (default {runs})")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    return parser


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import numpy as np
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def report(comparisons: Sequence[Comparison], json_path: str | None = None, **extra: Any) -> None:
    """Print the table and, where asked, write everything as JSON."""
    rows = [HEADER, *(comparison.row() for comparison in comparisons)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    where = machine()
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in where.items()))
    for key, value in extra.items():
        print(f"{key}: {value}" if not isinstance(value, dict) else f"{key}:")
        for name, part in value.items() if isinstance(value, dict) else ():
            print(f"  {name}: {part:.3g}" if isinstance(part, float) else f"  {name}: {part}")
    if json_path:
        content = {"comparisons": [asdict(comparison) for comparison in comparisons], "machine": where, **extra}
        Path(json_path).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        print(f"written to {json_path}")


def load_published(path: str | Path) -> Path:
    """Make `import libs...` of the published checkout work, its NMS included; the checkout's path.

    Raises:
        SystemExit: the path is no such checkout, or its NMS cannot be built; the message says why.
    """
    checkout = Path(path).resolve()
    source = checkout / "libs" / "utils" / "csrc" / "nms_cpu.cpp"
    if not source.is_file():
        sys.exit(f"error: {checkout} is no checkout of actionformer_release: it has no {source.relative_to(checkout)}")
    import numpy as np

    if not hasattr(np, "float"):
        setattr(np, "float", float)  # noqa: B010  # NumPy 1.24 took it away
    sys.dont_write_bytecode = True  # leave no trace in the checkout
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    _build_published_nms(source)
    warnings.filterwarnings("ignore", module=r"libs\..*")
    return checkout


def published_module(name: str) -> Any:
    """A module of the published code, such as `libs.utils`, after `load_published`."""
    return importlib.import_module(name)


def _build_published_nms(source: Path) -> None:
    """Compile the published NMS with the flags of its own setup.py, once per version of torch, and load it."""
    import torch
    from torch.utils import cpp_extension

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "eventide-benchmarks" / f"nms_1d_cpu-torch{torch.__version__}-py{platform.python_version()}"
    folder.mkdir(parents=True, exist_ok=True)
    # ninja lies beside this Python where the environment is not activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        sys.modules["nms_1d_cpu"] = cpp_extension.load(
            "nms_1d_cpu", [str(source)], extra_cflags=["-O3", "-fopenmp"], build_directory=str(folder), verbose=False
        )
    except (RuntimeError, OSError, ImportError) as error:
        sys.exit(f"error: the published NMS could not be built (it needs a C++ compiler and ninja): {error}")
