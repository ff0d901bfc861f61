"""On a CUDA device: the switches of the backbone against v1, and v2 against the published implementation, with limits.

THUMOS14 configuration: d = 512, window 19, T = 2304, training batch 2. Training steps and inference with
post-processing, features copied from the host in every run. Prints a verdict per limit and exits with 1 if one is
missed.

    python -m benchmarks.cuda [--published /path/to/actionformer_release] [--runs 20] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.common import Comparison, arguments, compare, report
from benchmarks.cuda_worker import V2
from benchmarks.network_worker import CONFIG, LENGTH
from benchmarks.worker import Worker
from eventide.config_loading import load_config
from eventide.engine.measure.ablation import Ablation
from eventide.engine.measure.plan import MeasureOptions
from eventide.models import build
from eventide.report.ablation_block import check_markers, write_block
from eventide.report.bench_tables import ablation_table, left_out

# Shares of v1's time and memory, by the row of the ablation.
LIMITS = {"v2, all": (0.80, 0.75), "v2, all + AMP": (0.45, 0.50)}
STEP_LIMIT, INFERENCE_LIMIT = 0.2, 0.25  # shares of the published implementation's time
LENGTHS = (1000, LENGTH, 9000)


@dataclass(frozen=True)
class Verdict:
    """A limit, what was measured, and whether it holds; None where nothing was measured."""

    what: str
    measured: float | None
    limit: float

    @property
    def holds(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.limit

    def line(self) -> str:
        word = {True: "pass", False: "FAIL", None: "not measured"}[self.holds]
        value = "-" if self.measured is None else f"{self.measured:.3f}"
        return f"{word:>12}  {self.what}: {value}, at most {self.limit:g}"


def ablation_verdicts(content: Mapping[str, Any]) -> list[Verdict]:
    """Time and memory of the rows that have limits."""
    rows = {row["label"]: row for row in content["rows"]}
    found = []
    for label, (time, memory) in LIMITS.items():
        row = rows[label]
        found.append(Verdict(f"{label}, training time over v1's", row["training_time_ratio"], time))
        found.append(Verdict(f"{label}, training memory over v1's", row["training_memory_ratio"], memory))
    return found


def published_verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """The rows that have a limit."""
    return [Verdict(item.label, item.ratio, item.target) for item in comparisons if item.target is not None]


def against_published(published: str | None, device: torch.device, length: int, runs: int) -> list[Comparison]:
    """Training step and inference of v2, in turn with the published implementation where there is a checkout."""
    commands: list[tuple[str, dict[str, Any], float | None]] = [
        (f"training step, T={length}, float32", {"work": "step"}, None),
        (f"training step, T={length}, --amp", {"work": "step", "amp": True}, STEP_LIMIT),
    ]
    for infer in LENGTHS if length == LENGTH else (length,):
        work = {"work": "infer", "length": infer}
        commands.append((f"inference with post-processing, T={infer}, float32", work, None))
        commands.append((f"inference with post-processing, T={infer}, --amp", {**work, "amp": True}, INFERENCE_LIMIT))
    module, place = "benchmarks.cuda_worker", [str(device), str(length)]
    with tempfile.TemporaryDirectory() as folder:
        ours = Worker(module, "ours", *place, folder)
        theirs = None
        if published:
            _save_weights(Path(folder))
            theirs = Worker(module, "theirs", *place, folder, published)
        found = []
        for label, command, target in commands:
            other = {key: value for key, value in command.items() if key != "amp"}
            run_other = None if theirs is None else lambda other=other, side=theirs: side(dict(other))
            found.append(
                compare(label, lambda command=command: ours(dict(command)), run_other, runs, target, warm_up=3)
            )
            print(f"{label}: done", file=sys.stderr)
        ours.close()
        if theirs is not None:
            theirs.close()
    return found


def _save_weights(folder: Path) -> None:
    """Weights of the published architecture, which its side loads."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(build(load_config(CONFIG)).detector.state_dict(), folder / "weights.safetensors")


def ablation(device: str, length: int, runs: int) -> dict[str, Any]:
    """The guide's table on this device."""
    measurement = Ablation(load_config(CONFIG), "configs/thumos_i3d.yaml", MeasureOptions(device, runs=runs), length)
    phases: set[str] = set()

    def on_progress(phase: str, what: str, done: int, total: int) -> None:
        if phase not in phases:
            phases.add(phase)
            print(f"{phase} ({done} of {total} turns)", file=sys.stderr)

    measurement.run(on_progress)
    return measurement.to_dict()


def main() -> None:
    """Measure, print, judge."""
    parser = arguments(__doc__, runs=20)
    parser.add_argument(
        "--write", metavar="PAGE", help="page whose marked block gets the table, such as docs/benchmarks.md"
    )
    parser.add_argument("--length", type=int, default=LENGTH, help="length of sequences; for trying the script")
    parser.add_argument("--device", default="cuda:0", help="device; cpu is for trying the script")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: this machine has no CUDA device that torch can use; benchmarks.network measures on CPUs")
    if options.write:
        check_markers(Path(options.write), device.type)
    comparisons = against_published(options.published, device, options.length, options.runs)
    report(comparisons, None, configuration=f"{CONFIG.name} with {V2[0]}")
    content = ablation(options.device, options.length, options.runs)
    Console(width=200).print(ablation_table(content))
    print("\n".join(left_out(content)))
    verdicts = [*ablation_verdicts(content), *published_verdicts(comparisons)]
    print("\n".join(verdict.line() for verdict in verdicts))
    if options.json:
        values = {"comparisons": [asdict(item) for item in comparisons], "ablation": content}
        values["verdicts"] = [{**asdict(verdict), "holds": verdict.holds} for verdict in verdicts]
        Path(options.json).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if options.write:
        write_block(Path(options.write), content)
    if any(verdict.holds is False for verdict in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
