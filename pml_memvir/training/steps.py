"""A step is one commit: what it leaves behind is there whole, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.form import Form
from ..core.memory import SnapshotMemory
from ..core.progress import Progress
from ..core.snapshots import Batch, Notes, Outcome
from ..core.warn import warn
from .bad_batches import BadBatches
from .hints import Hints


@dataclass(frozen=True)
class _Left:
    """What a step leaves behind, until it is where it belongs."""

    call: int
    outcome: Outcome
    labels: torch.Tensor
    notes: Notes | None
    is_remembered: bool
    questions: torch.Tensor
    num_virtual_steps: int


class Steps:
    """Counts steps, and ends them."""

    def __init__(
        self, memory: SnapshotMemory, progress: Progress, bad_batches: BadBatches
    ) -> None:
        self.memory, self.progress, self.bad = memory, progress, bad_batches
        self.schedule, self.hints = memory.schedule, Hints()
        self._unfinished: _Left | None = None  # of a step that was interrupted

    @property
    def step(self) -> int:
        """t, training steps so far."""
        return self.schedule.step(self.progress.calls)

    @property
    def slot(self) -> int:
        """Of the next call."""
        return self.schedule.slot(self.progress.calls)

    @property
    def is_in_warmup(self) -> bool:
        return self.step < self.progress.warmup_steps

    def begin(self) -> None:
        """Have all answers that the next call's memory depends on."""
        self.settle(self.progress.calls - self.schedule.calls_until_met)

    def look_at(self, batch: Batch, weight: torch.nn.Parameter) -> None:
        """Before a batch is used, say what is likely to be a mistake."""
        micro_batch = self.schedule.lane(self.progress.calls)
        self.hints.before_call(weight, micro_batch, self.schedule.accumulation_steps)
        self.bad.before_step(self.step, batch.embeddings, weight)

    def end(self, outcome: Outcome, batch: Batch, form: Form) -> None:
        """End this step: all that can fail first, then what it leaves behind."""
        call, num_met = self.progress.calls, self.memory.num_met(self.slot)
        is_remembered = self.schedule.stores(call) and not self.is_in_warmup
        notes = None
        if is_remembered:
            notes = outcome.notes() if outcome.notes else None
            self.memory.storage.make_room(
                form, outcome.class_weights, len(batch.labels)
            )
        ask = self.bad.questions(outcome, notes, batch.misfits)
        left = _Left(call, outcome, batch.labels, notes, is_remembered, ask, num_met)
        try:
            self._unfinished = left  # from here on the step has happened
            self._finish()
        except BaseException:
            self._finish()
            raise
        self.settle(call - self.schedule.calls_until_met)
        self.memory.fetch_ahead(self.slot)

    def settle(self, needed_up_to: int | None = None) -> None:
        """Make holes of bad snapshots of calls up to this one, by default of all."""
        self._finish()
        calls = self.progress.calls
        self.bad.settle(calls if needed_up_to is None else needed_up_to)

    def end_early(self) -> None:
        """End the step that is under way: what it lacks are holes."""
        self.settle()
        for call in self.schedule.rest_of_step(self.progress.calls):
            if self.schedule.stores(call):
                self.memory.forget(self.schedule.slot(call))
            self.progress.calls = call + 1
        self.memory.fetch_ahead(self.slot)

    def reset(self) -> None:
        """Empty the memory; the counters go on."""
        self.settle()
        self.memory.storage.reset()
        self.bad.reset()
        self.progress.num_virtual_steps, self.progress.insight = 0, None

    def empty_for(self, reason: str) -> None:
        """Empty the memory with a warning, if there is a reason."""
        if reason:
            warn(f"MemVir's memory is emptied: {reason}.")
            self.reset()
            self.progress.num_emptied += 1

    def _finish(self) -> None:
        """Do what is left to be done of a step; after an interrupt, once more."""
        left, progress = self._unfinished, self.progress
        if left is None:
            return
        slot, outcome = self.schedule.slot(left.call), left.outcome
        if left.is_remembered:
            vectors = outcome.class_weights, outcome.embeddings
            self.memory.remember(slot, *vectors, left.labels, left.notes)
        elif self.schedule.stores(left.call):
            self.memory.forget(slot)
        self.bad.ask(left.call, left.questions)
        progress.num_virtual_steps = left.num_virtual_steps
        progress.insight = outcome.insight if left.num_virtual_steps else None
        progress.calls = left.call + 1
        self._unfinished = None
