"""Which place of the memory a call writes to, and which track it meets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .values import integer

MOST_SNAPSHOTS = 10**9  # so many 8-byte integers would be had


@dataclass(frozen=True)
class Schedule:
    """Arithmetic from calls to steps, and from steps to tracks and their cells.

    A step is `accumulation_steps` calls, its micro-batches; micro-batch j is in lane j,
    and meets earlier micro-batches j only. (A step that is ended before leaves out
    calls, whose snapshots are holes.) Of `snapshot_every` steps the first leaves a
    snapshot and all meet the same ones: the *slot* of a call counts such groups of
    steps, and lanes. Slots that are a span apart share a track, as that is the
    distance at which snapshots meet:

        track(slot) = slot mod span,  span = (M+1) / snapshot_every * accumulation_steps

    Class weights may be kept more sparsely, once in `class_weights_every` steps: then
    all snapshots of such a stretch have those of its first one, in tracks of their own:

        weights_track(slot) = stretch(slot) mod (M+1) / class_weights_every

    Args:
        num_steps: N, the most snapshots that a step meets.
        step_gap: M, steps left out between two that meet.
        accumulation_steps: calls a step.
        snapshot_every: steps of which one leaves a snapshot; divides M + 1.
        class_weights_every: steps that share class weights, a multiple of
            `snapshot_every` that divides M + 1; None: each snapshot has its own.

    Raises:
        TypeError, ValueError: they are no such integers.
    """

    num_steps: int
    step_gap: int
    accumulation_steps: int = 1
    snapshot_every: int = 1
    class_weights_every: int | None = None

    def __post_init__(self) -> None:
        least = {"step_gap": 0}
        for name, value in vars(self).copy().items():
            if name != "class_weights_every" or value is not None:
                value = integer(name, value, least.get(name, 1))
                object.__setattr__(self, name, value)
        between, every = self.step_gap + 1, self.class_weights_every
        if between % self.snapshot_every:
            raise ValueError(
                f"snapshot_every must divide step_gap + 1 = {between}, "
                f"got {self.snapshot_every}"
            )
        if every and (between % every or every % self.snapshot_every):
            raise ValueError(
                f"class_weights_every must divide step_gap + 1 = {between} and be a "
                f"multiple of snapshot_every = {self.snapshot_every}, got {every}"
            )
        if self.num_tracks * self.num_cells > MOST_SNAPSHOTS:
            raise ValueError(
                f"num_steps = {self.num_steps} and step_gap = {self.step_gap} ask for "
                f"more than {MOST_SNAPSHOTS} snapshots: choose smaller ones, or "
                "snapshot_every"
            )

    @cached_property
    def num_tracks(self) -> int:
        """The span in slots."""
        return (self.step_gap + 1) // self.snapshot_every * self.accumulation_steps

    @cached_property
    def has_spare_cell(self) -> bool:
        """Whether a slot or a stretch goes on after its snapshot is taken: the others
        in it must not meet it yet, and still meet the one that is N spans old."""
        return self.snapshot_every > 1 or self.class_weights_every is not None

    @cached_property
    def num_cells(self) -> int:
        """Of a track."""
        return self.num_steps + self.has_spare_cell

    @cached_property
    def num_weights_tracks(self) -> int:
        """Tracks of class weights, which have as many cells."""
        if self.class_weights_every is None:
            return self.num_tracks
        return (self.step_gap + 1) // self.class_weights_every

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
        a_step = self.accumulation_steps
        return range(call, -(-call // a_step) * a_step)

    def stores(self, call: int) -> bool:
        """Whether the call leaves a snapshot."""
        return self.step(call) % self.snapshot_every == 0

    def slot(self, call: int) -> int:
        step, lane = divmod(call, self.accumulation_steps)
        return step // self.snapshot_every * self.accumulation_steps + lane

    def place(self, slot: int) -> tuple[int, int]:
        """Track and cell that a slot's snapshot is written to."""
        lap, track = divmod(slot, self.num_tracks)
        return track, lap % self.num_cells

    def weights_track(self, slot: int) -> int:
        """The track of a slot's class weights, in the cell of its place."""
        if self.class_weights_every is None:
            return slot % self.num_tracks
        return self.stretch(slot) % self.num_weights_tracks

    def stretch(self, slot: int) -> int:
        """Which of the stretches that share class weights a slot lies in."""
        return self.step_of_slot(slot) // (self.class_weights_every or 1)

    def last_slot(self, cell: int, before: int) -> int:
        """The last slot of `before`'s track that wrote to `cell` before `before`."""
        _, mine = self.place(before)
        laps = (mine - cell) % self.num_cells or self.num_cells
        return before - laps * self.num_tracks

    def step_of_slot(self, slot: int) -> int:
        """The step that leaves the slot's snapshot."""
        return slot // self.accumulation_steps * self.snapshot_every
