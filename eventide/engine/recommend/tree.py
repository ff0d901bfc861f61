"""The decision tree, as tables: which facts lead to which keys of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eventide.engine.recommend.situation import Choice, Situation

LONG = 2048  # vectors from which memory and positions are critical
VERY_LONG = 4096

# What is to be found decides the architecture. `{events}` and `{noisy}` are filled with where the fact comes from.
ARCHITECTURES: dict[str, tuple[Choice, ...]] = {
    "points": (
        Choice("model.meta_arch", "SnapFormer", "point events: {events}"),
        Choice("model.fpn_type", "cs_fpn", "recommended with SnapFormer: its finest level hears of all others"),
    ),
    "noisy": (
        Choice("model.meta_arch", "TBTFormer", "segments with noisy labels: {noisy}"),
        Choice("model.fpn_type", "cs_fpn", "recommended with boundary distributions"),
        Choice("model.reg_max", 16, "17 bins per boundary distribution"),
        Choice("model.dfl_weight", 0.25, "weight of the distribution focal loss"),
        Choice("model.backbone.n_head", 16, "the scaled backbone of TBTFormer"),
    ),
    "clean": (Choice("model.meta_arch", "LocPointTransformer", "segments ({events}) with clean labels: {noisy}"),),
}


@dataclass(frozen=True)
class Branch:
    """A question of the tree, and what each answer chooses."""

    question: str
    holds: Callable[[Situation], bool]
    yes: tuple[Choice, ...] = ()
    no: tuple[Choice, ...] = ()


def architecture(situation: Situation) -> str:
    """The leaf of the tree's first question, a key of `ARCHITECTURES`."""
    if situation.events == "points":
        return "points"
    return "noisy" if situation.noisy else "clean"


def has_fused_attention(situation: Situation) -> bool:
    """PyTorch 2.0 or later."""
    return int(situation.machine.torch_version.split(".")[0]) >= 2


def wants(goal: str) -> Callable[[Situation], bool]:
    return lambda situation: goal in situation.goals


BRANCHES = (
    Branch(
        "PyTorch 2.0 or later?",
        has_fused_attention,
        yes=(Choice("model.backbone.use_flash_attn", True, "torch {torch}: the same numbers in O(T) memory"),),
        no=(Choice("model.backbone.use_flash_attn", False, "torch {torch} has no fused attention"),),
    ),
    Branch(
        "Sequences longer than 2048?",
        lambda situation: situation.longest > LONG,
        yes=(Choice("model.backbone.use_rope", True, "critical for {longest} vectors: positions without a limit"),),
        no=(Choice("model.backbone.use_rope", True, "recommended at any length ({longest} vectors)"),),
    ),
    Branch(
        "Is training speed critical?",
        wants("speed"),
        yes=(Choice("model.backbone.use_rms_norm", True, "training speed matters: {goals}"),),
        no=(
            Choice("model.backbone.use_rms_norm", False, "training speed is not critical, layer norm is fine: {goals}"),
        ),
    ),
    Branch(
        "Is model quality critical?",
        wants("quality"),
        yes=(Choice("model.backbone.use_swiglu", True, "quality matters: {goals}"),),
        no=(Choice("model.backbone.use_swiglu", False, "quality is not critical, the plain one is fine: {goals}"),),
    ),
    Branch(
        "For inference?",
        lambda situation: "deployment" in situation.goals,
        yes=(Choice("model.backbone.n_kv_head", 2, "deployment: two heads of keys and values are faster"),),
    ),
)

PROTOTYPE = (
    Choice("model.backbone_type", "convTransformer", "a prototype: v1 for simplicity ({goals})"),
    Choice("model.backbone.use_abs_pe", False, "windows and convolutions see order without it"),
)
VERSION_2 = (
    Choice("model.backbone_type", "convTransformerv2", "each of its switches is chosen below"),
    Choice("model.backbone.use_abs_pe", False, "use_rope gives the positions"),
)


@dataclass(frozen=True)
class Hardware:
    """What a kind of GPU is good for: sequences per batch and batches per optimiser step."""

    most_memory: float  # GB of GPUs of this kind
    name: str
    batch_size: int
    accum_steps: int
    amp: str  # why mixed precision


# The guide's rows, by the memory that the cards it names have.
HARDWARE = (
    Hardware(13, "as 8 to 12 GB", 1, 4, "needed in this memory"),
    Hardware(25, "as RTX 3090 and 4090", 2, 4, "required on such cards"),
    Hardware(36, "as V100", 4, 2, "recommended on such cards"),
    Hardware(float("inf"), "as A100 and H100", 8, 1, "always on such cards"),
)
LIMITED = HARDWARE[0].most_memory  # GB up to which memory is limited: no gated feed-forward
CPU = Hardware(0, "CPU", 2, 1, "")


def hardware(situation: Situation) -> Hardware:
    """The row for the machine. A GPU of unknown memory counts as limited."""
    machine = situation.machine
    if not machine.gpus:
        return CPU
    size = (machine.memory or 0) / 1e9
    return next(row for row in HARDWARE if size <= row.most_memory)


def is_limited(situation: Situation) -> bool:
    """Whether the GPU has so little memory that the gated feed-forward is left out."""
    return hardware(situation) is HARDWARE[0]
