"""The memory: a grid of snapshots. It knows nothing of losses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .form import Form, unit
from .schedule import Schedule
from .snapshots import Notes, Row, Snapshots
from .storage import CopiedAhead, Grid, Size


@dataclass
class Contents:
    """All that a memory holds. What is replaced is replaced as a whole.

    Attributes:
        grid: the storage; None before anything is stored.
        form: in what form it is; None together with the grid.
        batch_sizes: (rows, columns); 0: an empty cell.
        stretches: (weights_rows, columns), where class weights are shared: the stretch
            whose they are; -1: none.
        keys: (rows,), of the settings that the kept numbers depend on; 0: of none.
        versions: of the storage's tensors when they were last written to from here.
    """

    grid: Grid | None
    form: Form | None
    batch_sizes: torch.Tensor
    stretches: torch.Tensor
    keys: torch.Tensor
    versions: int = field(init=False)

    def __post_init__(self) -> None:
        self.versions = self.versions_now()

    def versions_now(self) -> int:
        """Goes up with each change of snapshots in place."""
        grid = self.grid
        if grid is None:
            return 0
        return sum(
            t._version for t in (grid.class_weights, grid.embeddings, grid.labels)
        )

    @classmethod
    def empty(cls, schedule: Schedule) -> Contents:
        def full(value: int, *shape: int) -> torch.Tensor:
            with torch.inference_mode(False):  # it is written to later
                return torch.full(shape, value, dtype=torch.long, device="cpu")

        rows, columns = schedule.num_rows, schedule.num_columns
        stretches = full(-1, schedule.num_weights_rows, columns)
        return cls(None, None, full(0, rows, columns), stretches, full(0, rows))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it by name."""
        return {**self.bookkeeping(), **(self.grid.tensors() if self.grid else {})}

    def bookkeeping(self) -> dict[str, torch.Tensor]:
        """What says which cells hold what, which is on the CPU."""
        names = ("batch_sizes", "stretches", "keys")
        return {name: getattr(self, name) for name in names}


class SnapshotMemory:
    """A grid of snapshots, one a cell; calls that meet share a row.

    Step t meets the snapshots of steps t - (M+1), t - 2 (M+1), ..., t - N (M+1):
    only steps of the same residue t mod (M+1) ever meet. So they share a row, which
    step t reads whole; its own snapshot then replaces the oldest cell of that row.
    Position follows from t alone, so a cell left empty keeps all ages right. (For
    micro-batches and sparser snapshots, read slots for steps: see `Schedule`.)

    Not a torch.nn.Module, and its tensors are no buffers: broadcasting them between
    processes would be wrong, and their shape is not known before the first step.

    Args:
        schedule: says which cell is whose.
        dtype: of stored embeddings and class weights; default that of the first
            class weights, and of later ones where that changes.
        device: where those are stored: "same" as they come, or "cpu".
    """

    def __init__(
        self,
        schedule: Schedule,
        dtype: torch.dtype | None = None,
        device: str = "same",
    ) -> None:
        self.schedule = schedule
        self.dtype = dtype
        self.device = device
        self.num_renewed = 0  # rows whose kept numbers were made anew
        self._ahead: CopiedAhead | None = None
        self.reset()

    @property
    def contents(self) -> Contents:
        return self._contents

    @contents.setter
    def contents(self, contents: Contents) -> None:
        """Take over others, which fit."""
        if self._ahead is not None:
            self._ahead.finish()
        self._ahead = None
        self._contents = contents

    @property
    def grid(self) -> Grid | None:
        return self._contents.grid

    @property
    def batch_sizes(self) -> torch.Tensor:
        return self._contents.batch_sizes

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        self.contents = Contents.empty(self.schedule)

    @property
    def nbytes(self) -> int:
        """Bytes of storage allocated for snapshots."""
        return 0 if self.grid is None else self.grid.size.nbytes

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Follow the class weights, as after loading a checkpoint of another device."""
        if self.grid is not None:
            vectors, exact = self._dtypes(dtype)
            size = replace(self.grid.size, dtype=vectors, exact=exact)
            self._place(size, device)

    def columns_met(self, slot: int) -> list[int]:
        """Columns that hold a snapshot for this slot to meet."""
        return [column for column, size in enumerate(self._sizes(slot)) if size]

    def row(self, slot: int, device: torch.device | None = None) -> Row:
        """The row of a slot; before anything is stored, an empty one."""
        row, column = self.schedule.cell(slot)
        columns = self.schedule.num_columns
        if self.grid is None:
            none = torch.zeros(columns, 0, 1, device=device)
            views = dict.fromkeys(_VECTORS, none)
            views |= dict.fromkeys(("labels", "own"), none[:, :, 0])
            views["against"] = none.new_zeros(columns, 0, columns)
        else:
            tensors = self.grid.tensors()
            views = {name: tensors[name][row] for name in ("labels", "own", "against")}
            views |= self._vectors_of(slot)
        weights = views["class_weights"][column] if self._has_weights(slot) else None
        return Row(
            **views,
            batch_sizes=tuple(self._sizes(slot)),
            column=column,
            own_class_weights=weights,
            key=self._contents.keys[row : row + 1].tolist()[0],
        )

    def renew(self, slot: int, key: int, renew: Callable[[Row], None]) -> Row:
        """Have the numbers that are kept in a slot's row made anew, in place.

        Args:
            renew: gets the row with all it holds, what the slot must not meet, too.

        Returns:
            the row as the slot meets it.
        """
        row, _ = self.schedule.cell(slot)
        self._contents.keys[row] = 0  # until all of them are
        sizes = tuple(self.batch_sizes[row].tolist())
        renew(replace(self.row(slot), batch_sizes=sizes))
        self._contents.keys[row] = key
        self.num_renewed += 1
        return self.row(slot)

    def adapt(self, form: Form) -> str:
        """Bring what is stored to a form.

        Returns:
            why that cannot be, and the memory is to be emptied, or "".
        """
        grid, before = self._contents.grid, self._contents.form
        if grid is None or before is None or before == form:
            return ""
        if reason := before.refusal(form):
            return reason
        self._contents.keys.zero_()
        for name in _VECTORS:
            p, tensor = getattr(form, name), getattr(grid, name)
            if p != getattr(before, name):
                exact = torch.promote_types(tensor.dtype, torch.float32)
                for row in tensor:  # a second time it would change nothing
                    row.copy_(unit(row.to(exact), p))
        if form.algorithm != before.algorithm:
            grid = grid.without_notes(UNITS[form.algorithm](grid.size))
        self.contents = replace(self._contents, grid=grid, form=form)
        return ""

    def snapshots(self, slot: int) -> Snapshots | None:
        """Copies of the snapshots that a slot meets, or None."""
        columns = self.columns_met(slot)
        if not columns:
            return None
        row = self.row(slot)
        slots = (self.schedule.last_slot(column, before=slot) for column in columns)
        return Snapshots(
            row.class_weights[columns],
            row.embeddings[columns],
            row.labels[columns],
            tuple(row.batch_sizes[column] for column in columns),
            tuple(self.schedule.step_of_slot(s) for s in slots),
        )

    def make_room(
        self,
        form: Form,
        class_weights: torch.Tensor,
        batch_size: int,
    ) -> None:
        """Allocate for the first snapshot, grow for a larger one, follow its device.

        Args:
            form: that of the snapshot; what is stored has it already.
            class_weights: (C K, D).
            batch_size: B.

        Raises:
            MemoryError: there is no room; what was stored is still there.
        """
        size = Size(
            self.schedule.num_weights_rows,
            self.schedule.num_rows,
            self.schedule.num_columns,
            class_weights.shape[0],
            class_weights.shape[1],
            max(batch_size, self.grid.size.batch_size if self.grid else 0),
            0,
            *self._dtypes(class_weights.dtype),
        )
        size = replace(size, units=UNITS[form.algorithm](size))
        self._place(size, class_weights.device, form)

    def remember(
        self,
        slot: int,
        class_weights: torch.Tensor,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        notes: Notes | None = None,
    ) -> None:
        """Store a copy of a slot's snapshot in the place of the oldest of its row.

        There is room for it: see `make_room`. Done again it changes nothing.

        Args:
            class_weights: (C K, D), detached. They are left out where the snapshot
                belongs to those of an earlier one.
            embeddings: (B, D), detached.
            labels: (B,).
            notes: what the algorithm wants to be kept beside the snapshot.
        """
        row, column = self.schedule.cell(slot)
        contents, grid = self._contents, self.grid
        assert grid is not None
        contents.batch_sizes[row, column] = 0  # until all of it is there
        if not self._has_weights(slot):
            weights_cell = self.schedule.weights_row(slot), column
            self._write("class_weights", weights_cell, class_weights)
            if self.schedule.shares_class_weights:
                contents.stretches[weights_cell] = self.schedule.stretch(slot)
        self._write("embeddings", (row, column), embeddings)
        _fill(grid.labels[row, column], labels)
        if notes is not None:
            _fill(grid.own[row, column], notes.own)
            _fill(grid.against[row, column], notes.against)
            _fill(grid.against[row, :, :, column].t(), notes.of_others.t())
            _fill(grid.against[row, column, :, column], notes.against[:, column])
            contents.keys[row] = notes.key
        contents.versions = contents.versions_now()
        contents.batch_sizes[row, column] = len(labels)

    def forget(self, slot: int) -> None:
        """Leave a hole at a slot: it counts, and is never met again."""
        self.batch_sizes[self.schedule.cell(slot)] = 0

    def forget_class_weights(self, slot: int) -> None:
        """Leave a hole where a slot's class weights are, and all that belongs to it."""
        if not self._has_weights(slot):
            return
        schedule, (_, column) = self.schedule, self.schedule.cell(slot)
        weights_row = schedule.weights_row(slot)
        for row in range(schedule.num_rows):
            if schedule.weights_row(row) == weights_row:
                self.batch_sizes[row, column] = 0
        self._contents.stretches[weights_row, column] = -1

    def was_written_to(self) -> bool:
        """Whether somebody else has changed it in place, as through a state dict."""
        return self._contents.versions != self._contents.versions_now()

    def fetch_ahead(self, slot: int) -> None:
        """Begin to copy what this slot will meet, if it lies on another device."""
        if self._ahead is not None and self.columns_met(slot):
            self._ahead.fetch(self._rows_of(slot), self._vectors())

    def holds(self, class_weights: torch.Tensor) -> bool:
        """Whether snapshots with class weights of this shape fit in."""
        grid = self.grid
        return grid is None or grid.class_weights.shape[2:] == class_weights.shape

    def tensors(self) -> dict[str, torch.Tensor]:
        """All there is by name: of the storage the tensors themselves."""
        if self._ahead is not None:
            self._ahead.finish()
        return self._contents.tensors()

    def _sizes(self, slot: int) -> list[int]:
        row, column = self.schedule.cell(slot)
        sizes: list[int] = self.batch_sizes[row].tolist()
        if self.schedule.num_columns > self.schedule.num_steps:
            sizes[column] = 0  # this block's own snapshot, or one that is too old
        return sizes

    def _vectors(self) -> dict[str, torch.Tensor]:
        assert self.grid is not None
        return {name: getattr(self.grid, name) for name in _VECTORS}

    def _rows_of(self, slot: int) -> dict[str, int]:
        """By the name of vectors, the row of their grid."""
        rows = self.schedule.weights_row(slot), self.schedule.cell(slot)[0]
        return dict(zip(_VECTORS, rows))

    def _vectors_of(self, slot: int) -> dict[str, torch.Tensor]:
        rows, vectors = self._rows_of(slot), self._vectors()
        if self._ahead is not None:
            return self._ahead.take(rows, vectors)
        return {name: tensor[rows[name]] for name, tensor in vectors.items()}

    def _has_weights(self, slot: int) -> bool:
        """Whether an earlier snapshot has brought the class weights of this slot's."""
        if not self.schedule.shares_class_weights:
            return False
        of_row = self._contents.stretches[self.schedule.weights_row(slot)].tolist()
        _, column = self.schedule.cell(slot)
        return bool(of_row[column] == self.schedule.stretch(slot))

    def _write(self, name: str, cell: tuple[int, int], values: torch.Tensor) -> None:
        target = self._vectors()[name][cell]
        if self._ahead is not None:
            self._ahead.write(name, target, values)
        else:
            _fill(target, values)

    def _dtypes(self, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """Of vectors and of what algorithms keep, for class weights of a dtype."""
        return self.dtype or dtype, torch.promote_types(dtype, torch.float32)

    def _place(
        self, size: Size, device: torch.device, form: Form | None = None
    ) -> None:
        """The grid in this size, for this device."""
        storage = device if self.device == "same" else torch.device(self.device)
        had = self.grid
        if had is None or not had.is_like(size, device, storage):
            if self._ahead is not None:
                self._ahead.finish()
            grid = Grid.allocate(size, device, storage, had)
            sizes = self.batch_sizes
            if had is not None and (had.size.dtype, had.size.exact) != (
                size.dtype,
                size.exact,
            ):
                sizes = self._without_overflown(grid)
            form = form or self._contents.form
            self.contents = replace(
                self._contents, grid=grid, form=form, batch_sizes=sizes
            )
        if self._ahead is None and self._is_elsewhere(storage, device):
            self._ahead = CopiedAhead(device)

    def _without_overflown(self, grid: Grid) -> torch.Tensor:
        """Sizes with holes for snapshots too large for the dtypes they now have."""
        sizes = self.batch_sizes.clone()
        for row, column in self.batch_sizes.nonzero().tolist():
            filled = self.batch_sizes[row].nonzero().flatten().to(grid.against.device)
            numbers = (
                grid.class_weights[self.schedule.weights_row(row), column],
                grid.embeddings[row, column],
                grid.own[row, column],
                grid.against[row, column].index_select(1, filled),
            )
            if not all(bool(one.isfinite().all()) for one in numbers):
                sizes[row, column] = 0
        return sizes

    @staticmethod
    def _is_elsewhere(storage: torch.device, device: torch.device) -> bool:
        return storage != device

    def __getstate__(self) -> dict[str, Any]:
        self.tensors()  # waits for what is being written
        return {**self.__dict__, "_ahead": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What is sent to a spawned process comes in memory shared with all others.
        contents: Contents = state["_contents"]
        grid = contents.grid
        if grid is not None:
            grid = Grid(**{name: _own(t) for name, t in grid.tensors().items()})
        kept = contents.bookkeeping()
        own: dict[str, Any] = {name: _own(t) for name, t in kept.items()}
        self._restore({**state, "_contents": replace(contents, grid=grid, **own)})

    def __deepcopy__(self, memo: dict[int, Any]) -> SnapshotMemory:
        """Without the copy that __setstate__ makes of tensors on a GPU."""
        new = memo[id(self)] = type(self).__new__(type(self))
        new._restore(copy.deepcopy(self.__getstate__(), memo))
        return new

    def _restore(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._contents.versions = self._contents.versions_now()
        if self.grid is not None:
            self._place(self.grid.size, self.grid.labels.device)


_VECTORS = ("class_weights", "embeddings")
# Numbers that an algorithm keeps for each cell of a row.
UNITS: dict[str, Callable[[Size], int]] = {
    "row_softmax": lambda size: size.batch_size,
    "proxy_anchor": lambda size: size.classes,
    "concatenation": lambda size: 0,
}


def _own(tensor: torch.Tensor) -> torch.Tensor:
    is_shared = tensor.is_shared()  # type: ignore[no-untyped-call]
    return tensor.clone() if is_shared else tensor


def _fill(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write to the beginning of dimension 0, and zeros behind it.

    Not even a weight of 0 would make what a bad batch has left there harmless.
    """
    target[: len(values)].copy_(values)
    target[len(values) :] = 0
