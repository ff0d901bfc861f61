"""How large: width, levels, windows, training length, batches, epochs, from the amount of data and the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from eventide.engine.recommend.situation import Choice, Situation
from eventide.engine.recommend.tree import LONG, Hardware, architecture, hardware
from eventide.ops.level_ranges import LONG_SHARE, Levels, choose_levels, level_shares

WIDTHS = ((300, 128), (30_000, 256), (math.inf, 384))  # fewer training events than, channels
SEVERAL_FEATURES, MANY_EVENTS = 768, 10_000  # channels for several kinds of features and at least so many events
HEAD_CHANNELS = 64
USUAL_ARCH = (2, 2, 5)
# Bytes of training memory per vector and channel: 1418 MiB at 4608 vectors and 512 channels (docs/benchmarks.md).
BYTES_PER_VALUE = 630
MEMORY_SHARE = 0.6  # of the memory, for activations
CPU_LENGTH, GPU_LENGTH = 2304, 8192  # longest training sequence, unless events are longer
EVENT_ROOM = 1.25  # a training sequence is at least this much longer than the longest event
WINDOW = 9
SMALL = 100  # training recordings below which a data set is small
STEPS_PER_EPOCH = 20
TOTAL_STEPS, EPOCHS, MOST_EPOCHS, WARMUP = 1500, 30, 200, 5
LONG_TAIL = 2.0  # longest recording over the median one


def width(situation: Situation) -> Choice:
    """Channels of the embedding."""
    events, key = situation.num_events, "model.backbone.n_embd"
    if events is None:
        return Choice(key, 256, "assumed: the guide's for a few thousand events (no annotations were given)")
    if len(situation.data.features) > 1 and events >= MANY_EVENTS:
        return Choice(key, SEVERAL_FEATURES, f"{events} events and several kinds of features, as for Ego4D")
    channels = next(channels for fewer, channels in WIDTHS if events < fewer)
    return Choice(key, channels, f"{events} training events: 128 below 300, 256 below 30,000, then 384")


def head_choices(situation: Situation, channels: int) -> Iterator[Choice]:
    """Attention heads, where the architecture has not chosen."""
    if architecture(situation) == "noisy":
        if "quality" in situation.goals and "deployment" not in situation.goals:
            yield Choice("model.backbone.n_hidden", 6 * channels, "6 n_embd: the scaled backbone of TBTFormer")
        return
    yield Choice("model.backbone.n_head", channels // HEAD_CHANNELS, f"{HEAD_CHANNELS} channels per head")


def fitting_vectors(situation: Situation, channels: int) -> float:
    """Vectors of one batch that training has memory for; infinite where the memory is unknown."""
    memory = situation.machine.memory
    return math.inf if memory is None else MEMORY_SHARE * memory / (BYTES_PER_VALUE * channels)


def sequence_length(situation: Situation, channels: int) -> Choice:
    """Longest training sequence."""
    key, longest = "dataset.max_seq_len", situation.longest
    where = situation.because["longest"]
    if situation.data.grid is not None and situation.data.grid.feat_stride <= 0:
        return Choice(key, longest, f"every feature file has {longest} vectors ({where})")
    limit, reason = (GPU_LENGTH, "on a GPU") if situation.machine.gpus else (CPU_LENGTH, "on a CPU")
    events = situation.data.events
    if events is not None and len(events) and events.max() * EVENT_ROOM > limit:
        limit, reason = math.ceil(events.max() * EVENT_ROOM), f"with an event of {events.max():.0f} vectors"
    fitting = min(fitting_vectors(situation, channels), float(limit))
    if fitting < min(limit, longest):
        limit, reason = max(64, int(fitting) // 64 * 64), f"in {(situation.machine.memory or 0) / 1e9:.0f} GB of memory"
    if longest <= limit:
        rounded = max(8, -(-longest // 64) * 64)
        return Choice(key, rounded, f"the longest training recording has {longest} vectors ({where}), none is cut")
    return Choice(key, limit, f"{reason}; the longest recording has {longest} vectors ({where}) and is cut at random")


def windows(situation: Situation, length: int, levels: int) -> Choice:
    """Attention windows per level."""
    key = "model.backbone.mha_win_size"
    value: object = [WINDOW] * (levels - 1) + [-1] if levels > 1 else WINDOW
    if situation.data.grid is not None and situation.data.grid.feat_stride <= 0:
        return Choice(
            key, value, "whole recordings in few vectors, as for ActivityNet: local attention, global at last"
        )
    if length > LONG:
        return Choice(key, value, f"{length} vectors are more than {LONG}: local attention, global on the last level")
    if not situation.machine.gpus:
        return Choice(key, WINDOW, "local attention: time grows in a line with the length on a CPU")
    return Choice(key, -1, f"full attention is fine up to {LONG} vectors")


def level_choices(situation: Situation, length: int) -> tuple[list[Choice], int]:
    """The pyramid and what each level learns, and the number of backbone levels."""
    events, key = situation.data.events, "model.backbone.arch"
    longest = max(1, length // 8).bit_length()  # the last level keeps a few positions
    usual = min(USUAL_ARCH[2], longest)
    if architecture(situation) == "points":
        reason = "six levels: the coarse ones tell the finest, which finds the points, what is around"
        return [Choice(key, [*USUAL_ARCH[:2], usual], reason)], usual + 1
    if events is None or not len(events):
        what = "event lengths in vectors are not known" if situation.data.survey is None else "the grid is not known"
        return [Choice(key, [*USUAL_ARCH[:2], usual], f"assumed: {what}; ranges 0-4, 4-8, ... doubling")], usual + 1
    found = choose_levels(events, length)
    choices = [Choice(key, [*USUAL_ARCH[:2], found.last], _levels_reason(events, found))]
    if found.start:
        stride = 2**found.start
        reason = (
            f"finer levels than a stride of {stride} have no events: 95% last {np.quantile(events, 0.05):.0f} or more"
        )
        choices.append(Choice("model.fpn_start_level", found.start, reason))
    shares = ", ".join(f"{100 * share:.0f}%" for share in level_shares(events, found.ranges))
    reason = f"shares of the events, by count at half their length: {shares}; "
    if short := int((events <= 1).sum()):
        reason += f"{short} of {len(events)} are no longer than a grid step and need finer features, no other is "
    reason += "out of reach" if short else "none is out of reach"
    ranges = [[_plain(low), _plain(high)] for low, high in found.ranges]
    choices.append(Choice("model.regression_range", ranges, reason))
    return choices, found.last + 1


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


def _levels_reason(events: np.ndarray, found: Levels) -> str:
    long = float(np.quantile(events, 1 - LONG_SHARE))
    return (
        f"{found.last + 1} levels, strides up to {2**found.last}: a twentieth of the events last over {long:.0f} steps"
    )


def batch_choices(situation: Situation, length: int, channels: int) -> Iterator[Choice]:
    """Sequences per batch, mixed precision and accumulation."""
    row, recordings = hardware(situation), situation.num_recordings
    size, reason = row.batch_size, f"{_machine_text(situation, row)}"
    fitting = max(1, int(min(fitting_vectors(situation, channels), 64.0 * length)) // length)
    if fitting < size:
        size, reason = (
            fitting,
            f"{reason}, with memory for {fitting} x {length} vectors of {channels} channels (estimate)",
        )
    if recordings is not None and recordings < size * STEPS_PER_EPOCH:
        size = max(1, recordings // STEPS_PER_EPOCH)
        reason = f"{recordings} training recordings: small batches make more steps of them"
    accumulate = row.accum_steps > 1 and (recordings is None or recordings >= size * row.accum_steps * STEPS_PER_EPOCH)
    if row.accum_steps > 1 and not accumulate:
        reason += f", so no --accum-steps {row.accum_steps} either"
    yield Choice("loader.batch_size", size, reason)
    if accumulate:
        yield Choice("--accum-steps", row.accum_steps, f"small batches, {_machine_text(situation, row)}")
    if situation.machine.gpus:
        yield Choice("--amp", True, f"mixed precision: {row.amp}")
    elif situation.machine.bfloat16 and "speed" in situation.goals:
        yield Choice("--amp", True, "mixed precision: this CPU has bfloat16")


def _machine_text(situation: Situation, row: Hardware) -> str:
    machine = situation.machine
    if not machine.gpus:
        return f"no GPU ({situation.because['machine']})"
    size = "unknown memory" if machine.memory is None else f"{machine.memory / 1e9:.0f} GB"
    return f"{machine.name or 'GPU'} with {size}, treated {row.name} ({situation.because['machine']})"


def loader_choices(situation: Situation, length: int) -> Iterator[Choice]:
    """How batches are made, and by whom."""
    lengths = situation.data.lengths
    if lengths is not None and len(lengths) > 1:
        cut = np.minimum(lengths, length)
        ratio = float(cut.max() / max(np.median(cut), 1))
        text = f"the longest training sequence is {ratio:.1f} times the median one"
        if ratio > LONG_TAIL:
            yield Choice("loader.batching", "bucketed", f"{text}: similar lengths together save padding")
        else:
            yield Choice("loader.batching", "longest", f"{text}: random members waste little padding")
    if situation.machine.gpus:
        workers = max(0, min(4, situation.machine.cores // max(1, situation.machine.gpus) - 1))
        yield Choice("loader.num_workers", workers, f"{situation.machine.cores} cores; one stays with the GPU")


def schedule_choices(situation: Situation, batch: int, length: int) -> Iterator[Choice]:
    """Learning rate, epochs and crops, where the amount of data is known."""
    recordings = situation.num_recordings
    if recordings is None:
        return
    steps = -(-recordings // batch)
    epochs = int(min(MOST_EPOCHS, max(EPOCHS, math.ceil(TOTAL_STEPS / steps) - WARMUP)))
    small = recordings < SMALL
    rate = 1e-3 if small else 1e-4
    why = f"a small data set ({recordings} recordings): HAPT gained from 1e-3 to 3e-3" if small else "as published"
    yield Choice("opt.learning_rate", rate, why)
    yield Choice(
        "opt.epochs", epochs, f"{steps} steps each, with {WARMUP} of warm-up {steps * (epochs + WARMUP)} in all"
    )
    fixed = situation.data.grid is not None and situation.data.grid.feat_stride <= 0
    if small and situation.longest <= length and not fixed:
        yield Choice(
            "dataset.crop_ratio", [0.7, 1.0], "a small data set: another part of each recording in every epoch"
        )
