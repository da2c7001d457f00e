"""A step is one commit: what it leaves behind is there whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.form import Form
from ..core.memory import SnapshotMemory
from ..core.progress import Progress
from ..core.snapshots import Batch, Outcome
from ..core.warn import warn
from .bad_batches import BadBatches
from .hints import Hints


class Steps:
    """Counts steps, and ends them."""

    def __init__(
        self, memory: SnapshotMemory, progress: Progress, on_non_finite: str
    ) -> None:
        self.memory, self.progress = memory, progress
        self.schedule, self.hints = memory.schedule, Hints()
        self.bad = BadBatches(memory, progress, on_non_finite)
        # What a step that was interrupted has still to leave behind.
        self._unfinished: Callable[[], None] | None = None

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
        call, slot, progress = self.progress.calls, self.slot, self.progress
        num_met = self.memory.num_met(slot)
        is_remembered = self.schedule.stores(call) and not self.is_in_warmup
        notes = None
        if is_remembered:
            notes = outcome.notes and outcome.notes()
            self.memory.storage.make_room(
                form, outcome.class_weights, len(batch.labels)
            )
        ask = self.bad.questions(outcome, notes, batch.misfits)
        opens = is_remembered and self.memory.opens_stretch(slot)

        def leave() -> None:
            if is_remembered:
                vectors = outcome.class_weights, outcome.embeddings
                self.memory.remember(slot, *vectors, batch.labels, notes)
            elif self.schedule.stores(call):
                self.memory.forget(slot)
            self.bad.ask(call, ask, opens)
            progress.num_virtual_steps = num_met
            progress.insight = outcome.insight if num_met else None
            progress.calls = call + 1

        try:
            self._unfinished = leave  # from here on the step has happened
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
        self._finish()
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
        if self._unfinished is not None:
            self._unfinished()
            self._unfinished = None
