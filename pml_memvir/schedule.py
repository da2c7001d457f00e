"""Which cell of the memory a call writes to, and which row it meets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Arithmetic from calls to steps, and from steps to rows and columns of the grid.

    A step is `accumulation_steps` calls, its micro-batches; micro-batch j is in lane j,
    and meets earlier micro-batches j only. (A step that is ended before leaves out
    calls, whose snapshots are holes.) A block is `snapshot_every` steps, of which
    the first leaves a snapshot and all meet the same ones. The *slot* of a call counts
    blocks and lanes. Slots that are a span apart share a row, as that is the distance
    at which snapshots meet:

        row(slot) = slot mod span,  span = (M+1) / snapshot_every * accumulation_steps

    Class weights may be kept more sparsely, once in `class_weights_every` steps: then
    all snapshots of such a stretch have those of its first one, and rows of their own:

        weights_row(slot) = step / class_weights_every mod (M+1) / class_weights_every

    Args:
        num_steps: N, the most snapshots that a step meets.
        step_gap: M, steps left out between two that meet.
        accumulation_steps: calls a step.
        snapshot_every: steps a block; divides M + 1.
        class_weights_every: steps that share class weights, a multiple of
            `snapshot_every` that divides M + 1; None: each snapshot has its own.
    """

    num_steps: int
    step_gap: int
    accumulation_steps: int = 1
    snapshot_every: int = 1
    class_weights_every: int | None = None

    @property
    def num_rows(self) -> int:
        """The span."""
        return (self.step_gap + 1) // self.snapshot_every * self.accumulation_steps

    @property
    def num_columns(self) -> int:
        """N and, where a block or a stretch of class weights goes on after its snapshot
        is taken, one more for that: the others in it must not meet it yet."""
        return self.num_steps + (self.snapshot_every > 1 or self.shares_class_weights)

    @property
    def shares_class_weights(self) -> bool:
        return self.class_weights_every is not None

    @property
    def num_weights_rows(self) -> int:
        """Rows of the class weights' grid, which has as many columns."""
        if self.class_weights_every is None:
            return self.num_rows
        return (self.step_gap + 1) // self.class_weights_every

    def weights_row(self, slot: int) -> int:
        """Where, in the column of its cell, a slot's class weights are."""
        if self.class_weights_every is None:
            return slot % self.num_rows
        return self.stretch(slot) % self.num_weights_rows

    def stretch(self, slot: int) -> int:
        """Which of the stretches that share class weights a slot lies in."""
        return self.step_of_slot(slot) // (self.class_weights_every or 1)

    @property
    def calls_until_met(self) -> int:
        """How many calls after its own a snapshot is met for the first time."""
        return (self.step_gap + 1) * self.accumulation_steps

    def step(self, call: int) -> int:
        return call // self.accumulation_steps

    def lane(self, call: int) -> int:
        """Which micro-batch of its step the call is."""
        return call % self.accumulation_steps

    def rest_of_step(self, call: int) -> range:
        """The calls from this one on that its step lacks, if it has begun before."""
        return range(
            call, -(-call // self.accumulation_steps) * self.accumulation_steps
        )

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
