"""`eventide bench`: what a configuration costs on this machine, and what each switch of the backbone brings."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from cyclopts import Parameter

from eventide.types import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from eventide.config import Config
    from eventide.engine.measure.plan import MeasureOptions, OnProgress

INTERRUPTED = 130  # exit code
Kind = Literal["training", "inference"]


class Measurement(Protocol):
    """What runs and can be read at any time."""

    def run(self, on_progress: OnProgress, on_round: Callable[[], object]) -> None: ...

    def to_dict(self) -> dict[str, Any]: ...


def bench(
    config: Annotated[Path, Parameter(help="Configuration file; its data is not needed.")],
    *,
    lengths: Annotated[
        list[int] | None, Parameter(help="Lengths of recordings (vectors). Default: 1/4 to 4 times max_seq_len.")
    ] = None,
    batches: Annotated[list[int] | None, Parameter(help="Recordings per inference pass. Default: 1.")] = None,
    training_lengths: Annotated[
        list[int] | None, Parameter(help="Lengths of training sequences. Default: dataset.max_seq_len.")
    ] = None,
    only: Annotated[Kind | None, Parameter(help="Measure one of the two.")] = None,
    ablation: Annotated[bool, Parameter(help="Compare v1 and v2 switch by switch instead.")] = False,
    runs: Annotated[int, Parameter(help="Timed runs of each; medians are shown.")] = 5,
    amp: Annotated[bool, Parameter(help="Mixed precision, as in training.")] = False,
    device: Annotated[
        str | None, Parameter(help="auto, cpu, cuda, cuda:N or mps. Default: the configuration's.")
    ] = None,
    threads: Annotated[int | None, Parameter(help="Threads of the CPU.")] = None,
    json: Annotated[Path | None, Parameter(help="Also write all numbers to this file.")] = None,
    plot: Annotated[Path | None, Parameter(help="Draw time and memory against the length (.png, .svg, .pdf).")] = None,
    write: Annotated[Path | None, Parameter(help="With --ablation: page whose marked block gets the table.")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", help="Override a key: a.b=value.")] = None,
) -> int:
    """Measure parameters, operations, time and memory of a configuration on random features.

    Everything is measured in turn, round by round. Ctrl-C prints what there is so far and writes it.
    """
    _check_numbers({"--lengths": lengths, "--batches": batches, "--training-lengths": training_lengths})
    _check_numbers({"--runs": [runs], "--threads": None if threads is None else [threads]})
    _check_ablation(ablation, lengths, batches or training_lengths or only or plot or amp, write)
    from eventide.config_loading import load_config
    from eventide.engine.measure.plan import MeasureOptions

    loaded = load_config(config, set_ or ())
    options = MeasureOptions(device or loaded.device, amp, runs, threads=threads)
    if ablation:
        return _ablation(loaded, config, options, lengths, json, write)
    return _bench(loaded, config, options, lengths, batches, training_lengths, only, json, plot)


def _bench(
    config: Config,
    path: Path,
    options: MeasureOptions,
    lengths: list[int] | None,
    batches: list[int] | None,
    training_lengths: list[int] | None,
    only: Kind | None,
    json: Path | None,
    plot: Path | None,
) -> int:
    """One configuration by length and batch size."""
    from eventide.engine.devices import choose_precision
    from eventide.engine.measure.bench import Bench, default_lengths, make_rows
    from eventide.report.bench_tables import bench_tables, heading, left_out
    from eventide.report.figures import check_ending
    from eventide.report.scaling_plot import draw_scaling

    kinds: tuple[Kind, ...] = ("training", "inference") if only is None else (only,)
    training = training_lengths or [config.dataset.max_seq_len or 1]
    rows = make_rows(kinds, lengths or default_lengths(config), batches or [1], training, config.loader.batch_size)
    if plot is not None:
        check_ending(plot)
        if len({row.length for row in rows}) < 2:
            raise UsageError("--plot needs at least two lengths to draw a line (--lengths 1000 10000)")
    measurement = Bench(config, str(path), options, rows)
    _, sentence = choose_precision(measurement.device, options.amp)
    if sentence:
        print(sentence, file=sys.stderr)
    code = _measure(measurement, json)
    content = measurement.to_dict()
    _print(heading(content), bench_tables(content), left_out(content))
    if json is not None:
        print(f"Written to {json}")
    if plot is not None:
        draw_scaling(plot, content)
        print(f"Drawn to {plot}")
    return code


def _ablation(
    config: Config,
    path: Path,
    options: MeasureOptions,
    lengths: list[int] | None,
    json: Path | None,
    write: Path | None,
) -> int:
    """v1 and v2 switch by switch."""
    from eventide.engine.measure.ablation import Ablation
    from eventide.report.ablation_block import check_markers, write_block
    from eventide.report.bench_tables import ablation_table, left_out, machine_text

    if config.model.backbone_type == "conv":
        raise UsageError(f"{path}: --ablation compares transformers; model.backbone_type is conv")
    length = lengths[0] if lengths else config.dataset.max_seq_len or 1
    measurement = Ablation(config, str(path), options, length)
    if write is not None:
        check_markers(write, measurement.device.type)
    code = _measure(measurement, json)
    content = measurement.to_dict()
    _print([f"{path} on {machine_text(content['machine'])}"], [ablation_table(content)], left_out(content))
    if json is not None:
        print(f"Written to {json}")
    if write is not None and code:
        print(f"{write} was left as it is: the measurement is not complete")
    elif write is not None:
        write_block(write, content)
        print(f"Written to {write}")
    return code


def _measure(measurement: Measurement, json: Path | None) -> int:
    """Run to the end or to Ctrl-C, keeping the JSON file up to date on the way; the exit code."""
    from eventide.cli.bench_progress import bench_progress

    def keep() -> None:
        if json is not None:
            from eventide.ops.files import write_text

            write_text(json, json_format.dumps(measurement.to_dict(), indent=1) + "\n")

    keep()  # a path that cannot be written is told now and not after an hour
    code = 0
    try:
        with bench_progress() as on_progress:
            measurement.run(on_progress, keep)
    except KeyboardInterrupt:
        print("interrupted: this is what was measured so far", file=sys.stderr)
        code = INTERRUPTED
    keep()
    return code


def _print(lines: Sequence[str], tables: Sequence[Table], notes: Sequence[str] = ()) -> None:
    from rich.console import Console

    # a pipe has no width of its own: nothing is folded there
    console = Console() if sys.stdout.isatty() else Console(width=250)
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for table in tables:
        console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False, markup=False)


def _check_numbers(options: dict[str, list[int] | None]) -> None:
    for name, values in options.items():
        for value in values or ():
            if value < 1:
                raise UsageError(f"{name} {value}: give 1 or more")
        if values and len(set(values)) < len(values):
            raise UsageError(f"{name}: the same number twice")


def _check_ablation(ablation: bool, lengths: list[int] | None, others: object, write: Path | None) -> None:
    """Which options go with --ablation."""
    if not ablation:
        if write is not None:
            raise UsageError("--write goes with --ablation; --json writes the numbers of a configuration")
        return
    if others:
        raise UsageError(
            "--ablation chooses its own sizes and precisions: leave out --batches, --training-lengths, --only, --plot "
            "and --amp"
        )
    if lengths and len(lengths) > 1:
        raise UsageError("--ablation compares at one length; give one after --lengths")
