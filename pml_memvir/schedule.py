"""Which cell of the memory a call writes to, and which row it meets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Arithmetic from calls to steps, and from steps to rows and columns of the grid.

    A step is `accumulation_steps` calls, its micro-batches; micro-batch j is in lane j,
    and meets earlier micro-batches j only. A block is `snapshot_every` steps, of which
    the first leaves a snapshot and all meet the same ones. The *slot* of a call counts
    blocks and lanes. Slots that are a span apart share a row, as that is the distance
    at which snapshots meet:

        row(slot) = slot mod span,  span = (M+1) / snapshot_every * accumulation_steps

    Args:
        num_steps: N, the most snapshots that a step meets.
        step_gap: M, steps left out between two that meet.
        accumulation_steps: calls a step.
        snapshot_every: steps a block; divides M + 1.
    """

    num_steps: int
    step_gap: int
    accumulation_steps: int = 1
    snapshot_every: int = 1

    @property
    def num_rows(self) -> int:
        """The span."""
        return (self.step_gap + 1) // self.snapshot_every * self.accumulation_steps

    @property
    def num_columns(self) -> int:
        """N and, where a block goes on after its snapshot is taken, one more for that:
        the others of the block must not meet it yet."""
        return self.num_steps + (self.snapshot_every > 1)

    @property
    def calls_until_met(self) -> int:
        """How many calls after its own a snapshot is met for the first time."""
        return (self.step_gap + 1) * self.accumulation_steps

    def step(self, call: int) -> int:
        return call // self.accumulation_steps

    def stores(self, call: int) -> bool:
        """Whether the call leaves a snapshot."""
        return self.step(call) % self.snapshot_every == 0

    def slot(self, call: int) -> int:
        step, lane = divmod(call, self.accumulation_steps)
        return step // self.snapshot_every * self.accumulation_steps + lane

    def cell(self, slot: int) -> tuple[int, int]:
        """Row and column that a slot's snapshot is written to."""
        round_, row = divmod(slot, self.num_rows)
        return row, round_ % self.num_columns

    def last_slot(self, column: int, before: int) -> int:
        """The last slot of `before`'s row that wrote to `column` before `before`."""
        _, own = self.cell(before)
        rounds = (own - column) % self.num_columns or self.num_columns
        return before - rounds * self.num_rows

    def step_of_slot(self, slot: int) -> int:
        """The step that leaves the slot's snapshot."""
        return slot // self.accumulation_steps * self.snapshot_every
