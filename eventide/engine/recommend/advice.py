"""The whole recommendation: the tree, then sizes, as choices by key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from eventide.engine.recommend import sizes
from eventide.engine.recommend.data_keys import data_choices
from eventide.engine.recommend.situation import Choice, Situation
from eventide.engine.recommend.tree import (
    ARCHITECTURES,
    BRANCHES,
    PROTOTYPE,
    VERSION_2,
    VERY_LONG,
    architecture,
    is_limited,
)


@dataclass
class Advice:
    """What to write: choices by key (options of train.py start with `--`), and notes for the head of the file."""

    choices: dict[str, Choice] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, choices: Iterable[Choice]) -> None:
        """Add choices; a later one for the same key replaces the earlier."""
        for choice in choices:
            self.choices[choice.key] = choice

    def keys(self) -> dict[str, Choice]:
        """The choices that are keys of the configuration."""
        return {key: choice for key, choice in self.choices.items() if not key.startswith("--")}

    def options(self) -> dict[str, Choice]:
        """The choices that are options of train.py."""
        return {key: choice for key, choice in self.choices.items() if key.startswith("--")}


def recommend(situation: Situation) -> Advice:
    """Keys, options and notes for a situation."""
    advice = Advice()
    advice.add(data_choices(situation))
    advice.add(_filled(ARCHITECTURES[architecture(situation)], situation))
    _backbone(advice, situation)
    advice.add([sizes.width(situation)])
    channels = int(str(advice.choices["model.backbone.n_embd"].value))
    advice.add(sizes.head_choices(situation, channels))
    _share_keys(advice, channels)
    length = sizes.sequence_length(situation, channels)
    vectors = int(str(length.value))
    advice.add([length])
    levels, count = sizes.level_choices(situation, vectors)
    advice.add(levels)
    advice.add([sizes.windows(situation, vectors, count)])
    advice.add(sizes.batch_choices(situation, vectors, channels))
    advice.add(sizes.loader_choices(situation, vectors))
    advice.add(sizes.schedule_choices(situation, int(str(advice.choices["loader.batch_size"].value)), vectors))
    advice.add(_heatmap(situation))
    advice.notes += _notes(situation)
    return advice


def _backbone(advice: Advice, situation: Situation) -> None:
    """Version and switches of the backbone."""
    if "prototype" in situation.goals:
        advice.add(_filled(PROTOTYPE, situation))
        return
    advice.add(VERSION_2)
    for branch in BRANCHES:
        advice.add(_filled(branch.yes if branch.holds(situation) else branch.no, situation))
    swiglu = "model.backbone.use_swiglu"
    if is_limited(situation):
        size = f"{(situation.machine.memory or 0) / 1e9:.0f} GB" if situation.machine.memory else "unknown memory"
        advice.add([Choice(swiglu, False, f"saves memory: {size} ({situation.because['machine']})")])
    elif "deployment" in situation.goals and "quality" not in situation.goals:
        advice.add([Choice(swiglu, False, "deployment: the plain feed-forward is faster")])
    if situation.machine.gpus == 0 and advice.choices["model.backbone.use_flash_attn"].value:
        reason = "the same numbers; fused kernels run on CPUs too, so there is no need to turn it off there"
        advice.add([Choice("model.backbone.use_flash_attn", True, reason)])
    if architecture(situation) == "clean" and "quality" in situation.goals:
        reason = "quality: on HAPT with v2 it found more than the identity neck (docs/benchmarks.md)"
        advice.add([Choice("model.fpn_type", "fpn", reason)])


def _share_keys(advice: Advice, channels: int) -> None:
    """Fewer heads than two cannot share two heads of keys and values."""
    heads = int(str(advice.choices["model.backbone.n_head"].value))
    shared = advice.choices.get("model.backbone.n_kv_head")
    if shared is not None and heads % int(str(shared.value)):
        advice.add([replace(shared, value=1, reason=f"deployment: one head of keys and values for {heads} of queries")])


def _heatmap(situation: Situation) -> Iterable[Choice]:
    """Width of SnapFormer's targets, where two annotators say how exact a click is."""
    found, grid = situation.data.disagreement, situation.data.grid
    if situation.events != "points" or found is None or not found.pairs:
        return
    if grid is not None and grid.step is not None and found.noise > grid.step:
        pairs = f"{found.pairs} clicks of two{found.without}"
        reason = f"seconds; one annotator's noise, from {pairs} (a grid step is {grid.step:.3g} s)"
        yield Choice("model.heatmap.width", float(f"{found.noise:.3g}"), reason)


def _filled(choices: Iterable[Choice], situation: Situation) -> Iterable[Choice]:
    """Choices with the sources of the facts filled into their reasons."""
    values = {**situation.because, "torch": situation.machine.torch_version}
    values["longest"] = f"{situation.longest}"
    for choice in choices:
        reason = choice.reason
        for name, text in values.items():
            reason = reason.replace("{" + name + "}", text)
        yield replace(choice, reason=reason)


def _notes(situation: Situation) -> list[str]:
    """What the keys do not say."""
    machine, notes = situation.machine, []
    if machine.gpus > 1:
        notes.append(
            f"{machine.gpus} GPUs ({situation.because['machine']}): training in several processes is not there yet, so "
            "that this command uses one of them."
        )
    if machine.gpus == 0:
        notes.append(f"No GPU ({situation.because['machine']}): fit for small models and for finding mistakes.")
    if situation.longest > VERY_LONG:
        notes.append(f"Recordings of more than {VERY_LONG} vectors: test_cfg.chunk bounds the memory of prediction.")
    found = situation.data.disagreement
    if found is not None:
        notes.append(
            f"Two annotators agree on {found.pairs} events of {found.recordings} recordings ({found.only_first} and "
            f"{found.only_second} more have only one); the second is {found.bias:+.3g} s later on average, with a "
            f"standard deviation of {found.difference:.3g} s{found.without}."
        )
    if situation.data.survey is not None and situation.events == "segments" and situation.data.survey.points:
        notes.append(
            f"{situation.data.survey.points} of {situation.num_events} training events are points (`time`), which are "
            "left out of the training of segments; --events points learns all of them."
        )
    return notes
