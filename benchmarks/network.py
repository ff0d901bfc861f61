"""Training step, inference and memory of the network, beside the published implementation where a checkout is given.

THUMOS14 configuration: 2048 channels in, d = 512, window 19, 20 classes, T = 2304, batch 2, float32 unless said. A
step is
forward, backward, clipping, optimiser and EMA; inference is features in, detections in seconds out, NMS included.

    python -m benchmarks.network --published /path/to/actionformer_release [--runs 7] [--json FILE]
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Comparison, arguments, compare, report
from benchmarks.network_worker import LENGTH, MIXED
from benchmarks.worker import Worker


@dataclass(frozen=True)
class Row:
    """One line of the table: commands to both sides, and the ratio aimed at."""

    label: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    target: float | None = None


ROWS = [
    Row(f"training step, T={LENGTH}, batch 2", {"work": "step"}, {"work": "step"}, 0.8),
    Row("training step, --amp (bfloat16)", {"work": "step", "amp": True}, {"work": "step"}, 0.5),
    *(
        Row(f"inference, T={t}", {"work": "infer", "lengths": [t]}, {"work": "infer", "lengths": [t]}, target)
        for t, target in ((1000, 0.45), (LENGTH, 0.85), (9000, 0.7))
    ),
    Row(
        "inference, 8 mixed lengths 300 to 2304",
        {"work": "infer", "lengths": list(MIXED)},
        {"work": "infer", "lengths": list(MIXED)},
        0.6,
    ),
    Row(
        f"inference, T={LENGTH}, published padding",
        {"work": "infer", "lengths": [LENGTH], "padding": "published"},
        {"work": "infer", "lengths": [LENGTH]},
    ),
]
V2 = ["model.backbone_type=convTransformerv2"]  # every use_* switch of v2 is on by default
SHARED = [*V2, "model.backbone.n_kv_head=1"]
LONG = {"work": "infer", "lengths": [9000]}
V2_ROWS = [
    Row("v2 training step", {"work": "step", "switches": V2}, {"work": "step"}, 0.75),
    Row("v2 training step, --amp", {"work": "step", "switches": V2, "amp": True}, {"work": "step"}, 0.4),
    Row("v2 inference, T=9000", {**LONG, "switches": V2}, LONG, 0.6),
    Row("v2 inference, T=9000, bfloat16", {**LONG, "switches": V2, "amp": True}, LONG, 0.35),
    Row("v2, one key head, training step", {"work": "step", "switches": SHARED}, {"work": "step"}, 0.75),
    Row("v2, one key head, step, --amp", {"work": "step", "switches": SHARED, "amp": True}, {"work": "step"}, 0.4),
    Row("v2, one key head, inference, T=9000", {**LONG, "switches": SHARED}, LONG, 0.6),
    Row("v2, one key head, inference, T=9000, bfloat16", {**LONG, "switches": SHARED, "amp": True}, LONG, 0.35),
]


def measure(rows: list[Row], published: str | None, runs: int) -> list[Comparison]:
    """All rows in turn, both sides in processes of their own with the same weights."""
    with tempfile.TemporaryDirectory() as name:
        ours = Worker("benchmarks.network_worker", "ours", name)
        theirs = Worker("benchmarks.network_worker", "theirs", name, published) if published else None
        found = []
        for row in rows:
            other = None if theirs is None else lambda row=row, side=theirs: side(row.theirs)
            found.append(compare(row.label, lambda row=row: ours(row.ours), other, runs, row.target))
            print(f"{row.label}: done", file=sys.stderr)
        ours.close()
        if theirs is not None:
            theirs.close()
    return found


def peak_memory(published: str | None) -> dict[str, str]:
    """Peak resident memory of fresh processes that take three training steps each."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        for side in ("ours", "theirs") if published else ("ours",):
            worker = Worker("benchmarks.network_worker", side, name, *([published] if published else []))
            peaks[side] = [worker({"work": "step"})["peak_mib"] for _ in range(3)][-1]
            worker.close()
    text = ", ".join(f"{side} {value:.0f} MiB" for side, value in peaks.items())
    if "theirs" in peaks:
        text += f", ratio {peaks['ours'] / peaks['theirs']:.3f} (at most 0.7)"
    return {"peak memory of a process that trains": text}


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, runs=5)
    parser.add_argument("--only", metavar="TEXT", help="only the rows whose label holds TEXT, without memory")
    options = parser.parse_args()
    rows = [row for row in ROWS + V2_ROWS if not options.only or options.only in row.label]
    memory = {} if options.only else peak_memory(options.published)
    report(measure(rows, options.published, options.runs), options.json, **memory)


if __name__ == "__main__":
    main()
