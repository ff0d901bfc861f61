"""The gradients of one optimiser step, the same however its recordings are cut over processes and micro-batches.

Losses are sums over recordings, divided by a running number of events. The sums of all micro-batches of all processes
are added up; the number, and with balanced losses their weights, come from the sums of the whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor

from eventide.config import Config
from eventide.data.steps import Piece
from eventide.engine import guard
from eventide.engine.compiling import CompiledDetector
from eventide.engine.inference import as_float32
from eventide.engine.reduction import Reduction
from eventide.engine.state import TrainingState
from eventide.engine.world import World
from eventide.models.criterion import COUNT, PER_CLASS
from eventide.types import Batch, PyramidOutput

Part = tuple[int, Batch, bool]  # seed, sequences, whether they count
Weights = dict[str, Tensor | float]
POSITIONS = "num_positions"  # valid positions of the pyramid, those that could learn an event


@dataclass
class StepLosses:
    """Of one step, over all processes; tensors on their device, so that the host need not wait for each."""

    names: list[str]
    values: Tensor  # (K,) loss parts, final loss, number of learnt positions and of positions
    per_class: Tensor  # (classes,) learnt positions of each class
    factor: Tensor  # (), what the gradients are to be multiplied by
    flags: Tensor  # (F,) the flags of all processes, added up

    @property
    def final(self) -> Tensor:
        """The final loss, a scalar."""
        return self.values[self.names.index("final_loss")]


class StepGradients:
    """Computes gradients, step after step."""

    def __init__(
        self,
        config: Config,
        fabric: Fabric,
        world: World,
        detector: Callable[[Tensor, Tensor | None], PyramidOutput],
        state: TrainingState,
        reduction: Reduction,
        say: Callable[[str], object],
    ) -> None:
        self.fabric, self.world, self.detector, self.state = fabric, world, detector, state
        self.reduction, self.say = reduction, say
        self.seed, self.recovers = config.seed, config.train_cfg.auto_microbatch
        self.names = list(state.criterion.parts)
        self.most_sequences: int | None = None  # of a micro-batch, once memory ran out
        self.work = ("training", 0, 0)  # what is being computed: sequences, longest; for messages
        self._balance: Weights | None = None

    def compute(
        self, first_number: int, pieces: Sequence[tuple[Piece, Batch]], teacher_share: float, flags: Sequence[float]
    ) -> StepLosses:
        """Add the gradients of a step up in `grad`, over all processes, to be multiplied by the `factor` returned.

        `first_number` is that of the step's first piece in the run: dropout depends on it. `flags` are added up on
        the way.

        Raises:
            RuntimeError, MemoryError: memory ran out, and a micro-batch cannot be made smaller.
        """
        self._balance = None
        while True:
            try:
                sums = self._local(first_number, pieces, teacher_share)
                break
            except (RuntimeError, MemoryError) as error:
                if not (self.recovers and guard.is_out_of_memory(error) and self._sequences(pieces) > 1):
                    raise
            self._halve(pieces)  # here, where nothing holds the tensors of the failed attempt any more
        self.reduction.finish()
        return self._whole_step(sums, flags)

    def _local(self, first_number: int, pieces: Sequence[tuple[Piece, Batch]], share: float) -> Tensor:
        """Forward and backward passes of this process; the sums of what counts of it, as a vector."""
        self.state.optimizer.zero_grad(set_to_none=True)
        self.reduction.restart()
        parts = self._parts(first_number, pieces)
        if self._balance is None and self.state.criterion.balances and (len(parts) != 1 or self.world.size > 1):
            self._balance = self._balanced(parts, share)
        total = self._nothing()
        for number, part in enumerate(parts):
            sums = self._sums(part, share)
            self.reduction.last_pass(number == len(parts) - 1)
            objective = self._objective(sums) if part[2] else 0.0 * self._objective(sums)
            self.fabric.backward(objective)
            if part[2]:
                total += self._stacked(sums)
        return total

    def _parts(self, first_number: int, pieces: Sequence[tuple[Piece, Batch]]) -> list[Part]:
        """The pieces, cut where memory asks for it, each with a seed that depends on its place in the run alone."""
        parts = []
        for piece, batch in pieces:
            seed = self.seed * 1_000_003 + first_number + piece.number
            size = self.most_sequences or len(batch.ids)
            for cut, start in enumerate(range(0, len(batch.ids), size)):
                parts.append(((seed + (cut << 40)) % 2**63, batch.rows(start, start + size), piece.counts))
        return parts

    def _sums(self, part: Part, share: float) -> dict[str, Tensor]:
        """Loss parts of a micro-batch, summed over it."""
        seed, batch, _ = part
        self.work = ("training", len(batch.ids), batch.features.shape[-1])
        batch = batch.to(self.fabric.device)
        # Dropout and drop path depend on this alone, so a resumed run needs no random state.
        torch.manual_seed(seed)
        mask = batch.mask if min(batch.lengths) < batch.features.shape[-1] else None
        teacher = self._teacher(batch.features, mask, share)
        output = as_float32(self.detector(batch.features, mask))
        sums = self.state.criterion.sums(output, batch.segments, batch.label_ids, *teacher)
        return {**sums, POSITIONS: torch.stack([level.sum() for level in output.masks]).sum()}

    def _teacher(self, features: Tensor, mask: Tensor | None, share: float) -> tuple[PyramidOutput, float] | tuple[()]:
        """The averaged model's output and its share in the targets of this step, where it has one."""
        if share == 0:
            return ()
        with torch.no_grad(), self.fabric.autocast():
            return as_float32(self.state.average.module(features, mask)), share

    def _objective(self, sums: dict[str, Tensor]) -> Tensor:
        """What to differentiate. It is divided by the normaliser before this step, so that it is no huge number;
        `StepLosses.factor` makes up for the difference.
        """
        criterion = self.state.criterion
        parts = {name: sums[name] / criterion.loss_normalizer for name in self.names}
        if self._balance is not None:
            return criterion.final_loss(parts, self._balance)
        if criterion.balances:  # all there is: its weights come from its own losses, divided as they will be
            moved = criterion.moved_normalizer(sums[COUNT])
            return criterion.final_loss(parts, criterion.weights({name: sums[name] / moved for name in self.names}))
        return criterion.final_loss(parts, criterion.weights(parts))

    @torch.no_grad()
    def _balanced(self, parts: list[Part], share: float) -> Weights:
        """Weights from the losses of the whole step, which take a pass of their own."""
        total = self._nothing()
        for part in parts:
            sums = self._stacked(self._sums(part, share))  # also of what does not count: others wait for the pass
            if part[2]:
                total += sums
        self.world.sum(total)
        size = len(self.names)
        normalizer = self.state.criterion.moved_normalizer(total[size])
        return self.state.criterion.weights(dict(zip(self.names, (total[:size] / normalizer).unbind(), strict=True)))

    def _stacked(self, sums: dict[str, Tensor]) -> Tensor:
        """One vector for what adds up: loss parts, learnt positions, positions, learnt positions per class."""
        scalars = torch.stack([sums[name].detach().float() for name in (*self.names, COUNT, POSITIONS)])
        return torch.cat((scalars, sums[PER_CLASS].detach().float()))

    def _nothing(self) -> Tensor:
        """The vector of no sequence at all."""
        return torch.zeros(len(self.names) + 2 + self.state.criterion.num_classes, device=self.fabric.device)

    def _whole_step(self, sums: Tensor, flags: Sequence[float]) -> StepLosses:
        """Add up over processes, move the normaliser, and divide."""
        criterion = self.state.criterion
        total, flag_sums = self.world.sum(torch.cat((sums, sums.new_tensor(flags)))).split((len(sums), len(flags)))
        size = len(self.names)
        before = criterion.loss_normalizer.clone()
        criterion.move_normalizer(total[size])
        values = total[:size] / criterion.loss_normalizer
        parts = dict(zip(self.names, values.unbind(), strict=True))
        final = criterion.final_loss(parts, self._balance or criterion.weights(parts))
        losses = torch.cat((values, final.reshape(1), total[size : size + 2]))
        factor = before / criterion.loss_normalizer
        return StepLosses([*self.names, "final_loss", COUNT, POSITIONS], losses, total[size + 2 :], factor, flag_sums)

    def _sequences(self, pieces: Sequence[tuple[Piece, Batch]]) -> int:
        """The most sequences of a micro-batch of these pieces."""
        largest = max((len(batch.ids) for _, batch in pieces), default=0)
        return min(self.most_sequences or largest, largest)

    def _halve(self, pieces: Sequence[tuple[Piece, Batch]]) -> None:
        """Make micro-batches half as large."""
        present = self._sequences(pieces)
        self.most_sequences = -(-present // 2)
        if isinstance(self.detector, CompiledDetector):
            self.detector.shrink(self.most_sequences)
        guard.free_memory(self.fabric.device)
        self.say(
            f"out of memory with {present} sequences of up to {self.work[2]} feature vectors: going on with "
            f"micro-batches of {self.most_sequences}, as many more of them (train_cfg.auto_microbatch); the result "
            "stays the same"
        )
