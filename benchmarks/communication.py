"""What a process sends in a training step: counted from the model, measured on one machine, projected to clusters.

    python -m benchmarks.communication [CONFIG ...] [--measure 2 3] [--write docs/scaling.md] [--json FILE]

Counted: the messages of `eventide.engine.reduction` for the parameters of each configuration. Measured: `train_ddp.py`
itself, in a network of its own, where nobody else sends (`benchmarks.communication_measured`). Projected: the times
of the same messages over links whose rates are assumptions, written under the table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.communication_measured import Measured, measure
from eventide.config import Config
from eventide.config_loading import load_config
from eventide.engine.measure.operations import count_operations
from eventide.engine.optim import build_optimizer, parameters_of
from eventide.engine.reduction import BUCKET_BYTES, cut_into_buckets
from eventide.layers.blocks import Block
from eventide.models import build
from eventide.ops.files import write_text

CONFIGS = ("configs/hapt_segments.yaml", "configs/hardware/a100.yaml", "configs/ego4d_slowfast_v2.yaml")
ENOUGH = 0.9  # share of the time that a GPU should compute
GPUS = (8, 16, 32, 64, 128, 256)
PER_MACHINE = 8
# Sent with the loss parts: learnt positions and positions; that a process was asked to stop, that it was by SIGTERM,
# and that a checkpoint is due.
WITH_LOSSES = 5
BACKWARD_SHARE = 2 / 3  # of a step: two of three matrix products


@dataclass(frozen=True)
class Link:
    """How machines are connected. `rate` is what one ring over all GPUs gets, in bytes per second."""

    name: str
    rate: float
    hop: float  # seconds for a small message from machine to machine


# Four fifths of what the link can do. Eight adapters of 400 Gb/s give a machine 320 GB/s: NVLink is then the limit.
INSIDE = Link("NVLink", 200e9, 3e-6)
LINKS = (
    Link("400 Gb/s InfiniBand per GPU", 200e9, 10e-6),
    Link("100 Gb/s Ethernet per machine", 10e9, 30e-6),
)


@dataclass(frozen=True)
class Traffic:
    """The messages of a training step, whatever the number of processes: bytes of each, every process has as many."""

    name: str
    parameters: int
    buckets: tuple[int, ...]  # gradients
    values: int  # float32 numbers that are sent after them, and one more for each process
    blocks: int  # bytes of the parameters that lie in blocks: with FSDP these are fetched once more on the way back

    @property
    def gradients(self) -> int:
        return sum(self.buckets)

    def messages(self, processes: int) -> tuple[int, ...]:
        """Bytes of all messages; in the last one, each of so many processes says how long it has waited for data."""
        return (*self.buckets, 4 * (self.values + processes))


def traffic_of(name: str, config: Config) -> Traffic:
    """Counted on the meta device, which has shapes and no memory."""
    with torch.device("meta"):
        model = build(config)
    parameters = parameters_of(build_optimizer(config.opt, model.detector, model.criterion))
    buckets = cut_into_buckets(list(reversed(parameters)), BUCKET_BYTES)
    sizes = tuple(sum(p.numel() * p.element_size() for p in bucket) for bucket in buckets)
    values = len(model.criterion.parts) + model.criterion.num_classes + WITH_LOSSES
    blocks = [module for module in model.detector.modules() if isinstance(module, Block)]
    in_blocks = sum(4 * parameter.numel() for block in blocks for parameter in block.parameters())
    return Traffic(name, sum(p.numel() for p in parameters), sizes, values, in_blocks)


def sent_all_reduce(size: float, processes: int) -> float:
    """Bytes that each of so many processes sends to add `size` bytes up in a ring: every part goes round twice."""
    return 2 * (processes - 1) / processes * size


def sent_in_step(traffic: Traffic, processes: int) -> float:
    """Bytes that a process sends in a training step."""
    return sent_all_reduce(sum(traffic.messages(processes)), processes)


def sent_in_pass(traffic: Traffic, processes: int) -> float:
    """The same for a pass of a model in parts (FSDP), of which a step has `accum_steps`: parameters are fetched, those
    of blocks twice, gradients are added up where they belong. What goes round a ring once is half a sum.
    """
    return sent_all_reduce(2 * traffic.gradients + traffic.blocks, processes) / 2


def message_seconds(size: float, gpus: int, link: Link) -> float:
    """Seconds for one message: the ring at the rate of its slowest link, and the way through the machine and a tree of
    machines, there and back.
    """
    inside = min(gpus, PER_MACHINE)
    machines = math.ceil(gpus / PER_MACHINE)
    rate = INSIDE.rate if machines == 1 else min(INSIDE.rate, link.rate)
    hops = 2 * (inside - 1) * INSIDE.hop + 2 * math.ceil(math.log2(machines)) * link.hop
    return sent_all_reduce(size, gpus) / rate + hops


def step_seconds(traffic: Traffic, gpus: int, link: Link) -> float:
    """Seconds of all messages of a step, one after the other."""
    return sum(message_seconds(size, gpus, link) for size in traffic.messages(gpus))


def exposed_seconds(traffic: Traffic, gpus: int, link: Link, pass_seconds: float) -> float:
    """Seconds of a step in which a GPU does nothing but wait for messages.

    Buckets are sent as they fill, evenly over the backward part of the last pass, one at a time; the last one is full
    only at the end of it. The losses follow.
    """
    backward = BACKWARD_SHARE * pass_seconds
    free = 0.0  # when the link has sent all before
    for number, size in enumerate(traffic.buckets, 1):
        ready = backward * number / len(traffic.buckets)
        free = max(free, ready) + message_seconds(size, gpus, link)
    return max(free - backward, 0.0) + message_seconds(traffic.messages(gpus)[-1], gpus, link)


@dataclass(frozen=True)
class Projection:
    """A training step on so many GPUs. Shares are those of the time that a GPU computes."""

    gpus: int
    link: str
    sent: float  # bytes per GPU
    seconds: float  # of all messages
    one_after_the_other: float  # where nothing overlaps
    overlapped: float
    passes: int  # per step (`accum_steps`) from which a GPU computes `ENOUGH`, overlapped


def project(traffic: Traffic, gpus: int, link: Link, pass_seconds: float, accum_steps: int) -> Projection:
    """What `gpus` GPUs make of a step of `accum_steps` passes, each of `pass_seconds`."""
    compute, seconds = pass_seconds * accum_steps, step_seconds(traffic, gpus, link)
    exposed = exposed_seconds(traffic, gpus, link, pass_seconds)
    shares = compute / (compute + seconds), compute / (compute + exposed)
    passes = math.ceil(ENOUGH / (1 - ENOUGH) * exposed / pass_seconds)
    return Projection(gpus, link.name, sent_in_step(traffic, gpus), seconds, *shares, max(passes, 1))


def pass_seconds_of(config: Config, rate: float) -> float:
    """Seconds of forward and backward over a full batch of the longest windows, at `rate` operations per second."""
    length = config.resolve().dataset.max_seq_len
    if length is None:
        raise ValueError("a resolved configuration has max_seq_len")
    return count_operations(config, length, config.loader.batch_size, training=True).total / rate


def mega(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def time_text(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted_table(traffics: Sequence[Traffic]) -> str:
    """What is sent, by configuration."""
    rows = [
        [
            f"`{traffic.name}`",
            f"{traffic.parameters / 1e6:.1f} M",
            mega(traffic.gradients),
            str(len(traffic.buckets)),
            f"{traffic.messages(8)[-1]} B",
            *(mega(sent_in_step(traffic, n)) for n in (2, 8, 256)),
            mega(sent_in_pass(traffic, 8)),
        ]
        for traffic in traffics
    ]
    header = ["configuration", "parameters", "gradients", "in messages", "losses", "sent by 1 of 2", "of 8", "of 256"]
    return table([*header, "fsdp, 1 of 8, per pass"], rows)


def counted(traffic: Traffic, measured: Measured) -> float:
    """What the formulas say to a measurement, whose steps have one pass. Gloo adds gradients up in all processes where
    one would do: twice round the ring instead of once.
    """
    if measured.strategy == "fsdp":
        more = sent_all_reduce(traffic.gradients, measured.processes) / 2
        return sent_in_pass(traffic, measured.processes) + more
    return sent_in_step(traffic, measured.processes)


def measured_table(found: Sequence[tuple[Traffic, Measured]]) -> str:
    """What was measured beside what was counted."""
    rows = [
        [
            f"`{traffic.name}`" + (", fsdp" if measured.strategy == "fsdp" else ""),
            str(measured.processes),
            str(measured.steps),
            mega(measured.bytes_per_step),
            mega(counted(traffic, measured)),
            f"{measured.bytes_per_step / counted(traffic, measured):.3f}",
        ]
        for traffic, measured in found
    ]
    return table(["configuration", "processes", "steps", "measured", "counted", "measured/counted"], rows)


def projected_table(projections: Sequence[Projection]) -> str:
    """One row per number of GPUs, four columns per link."""
    header = ["GPUs", "sent by each"]
    for link in LINKS:
        header += [link.name, "computing", "overlapped", "passes for 90%"]
    rows = []
    for gpus in GPUS:
        of_links = [item for item in projections if item.gpus == gpus]
        cells = [str(gpus), mega(of_links[0].sent)]
        for item in of_links:
            cells += [time_text(item.seconds), f"{item.one_after_the_other:.0%}", f"{item.overlapped:.0%}"]
            cells.append(str(item.passes))
        rows.append(cells)
    return table(header, rows)


def write_blocks(page: Path, blocks: dict[str, str]) -> None:
    """Put each block between the marker lines of its name; nothing else of the page is touched.

    Raises:
        SystemExit: the page lacks a marker.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- communication:begin {name} -->", f"<!-- communication:end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            sys.exit(f"error: {page} must have the lines {begin} and {end} once each, in this order")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{block}\n\n{end}{rest.split(end)[1]}"
    write_text(page, text)


def main(words: Sequence[str] | None = None) -> None:
    """Count, measure where asked, project, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(CONFIGS), metavar="CONFIG", help="configurations to count")
    parser.add_argument("--measure", type=int, nargs="+", default=[], metavar="N", help="numbers of processes to run")
    parser.add_argument("--strategies", nargs="+", default=["ddp"], metavar="S", help="to measure: ddp, fsdp")
    parser.add_argument("--rate", type=float, default=100, metavar="TFLOPS", help="operations per second of a GPU")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into a Markdown page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args(words)

    configs = {path.removeprefix("configs/").removesuffix(".yaml"): load_config(Path(path)) for path in options.configs}
    traffics = {name: traffic_of(name, config) for name, config in configs.items()}
    blocks = {"counted": counted_table(list(traffics.values()))}
    projections = {}
    for name, config in configs.items():
        seconds, accum_steps = pass_seconds_of(config, options.rate * 1e12), config.train_cfg.accum_steps
        rows = [project(traffics[name], gpus, link, seconds, accum_steps) for gpus in GPUS for link in LINKS]
        projections[name] = rows
        title = f"`{name}`, batches of {config.loader.batch_size}: a pass of {time_text(seconds)} "
        title += f"at {options.rate:g} TFLOP/s, {accum_steps} per step"
        blocks["projected"] = blocks.get("projected", "") + f"{title}\n\n{projected_table(rows)}\n\n"
    blocks["projected"] = blocks["projected"].rstrip()
    found = [
        (traffics[name], measure(Path(path), processes, strategy))
        for name, path in zip(configs, options.configs, strict=True)
        for strategy in options.strategies
        for processes in options.measure
    ]
    if found:
        blocks["measured"] = measured_table(found)
    for name, block in blocks.items():
        print(f"== {name}\n{block}\n")
    if options.write:
        write_blocks(options.write, blocks)
    if options.json:
        content = {
            "counted": {name: asdict(traffic) for name, traffic in traffics.items()},
            "measured": [{"name": traffic.name, **asdict(measured)} for traffic, measured in found],
            "projected": {name: [asdict(row) for row in rows] for name, rows in projections.items()},
        }
        write_text(options.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
