"""The memory: a grid of snapshots. It knows nothing of losses."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from .schedule import Schedule
from .snapshots import Key, Notes, Row, Snapshots
from .storage import CopiedAhead, Grid, Size


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
        self.grid: Grid | None = None
        self.batch_sizes: torch.Tensor  # (rows, columns); 0: an empty cell
        # (weights_rows, columns), where class weights are shared: the stretch whose
        # they are; -1: none.
        self.stretches: torch.Tensor
        self.keys: list[Key]  # a row each
        self._ahead: CopiedAhead | None = None
        self.reset()

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        shape = (self.schedule.num_rows, self.schedule.num_columns)
        empty = torch.zeros(shape, dtype=torch.long, device="cpu")
        self.replace(None, empty, self.no_stretches(), [()] * shape[0])

    def no_stretches(self) -> torch.Tensor:
        schedule = self.schedule
        shape = (schedule.num_weights_rows, schedule.num_columns)
        return torch.full(shape, -1, dtype=torch.long, device="cpu")

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
            views = dict.fromkeys(("class_weights", "embeddings"), none)
            views |= dict.fromkeys(("labels", "own"), none[:, :, 0])
            views["against"] = none.new_zeros(columns, 0, columns)
        else:
            views = {name: tensor[row] for name, tensor in self._notes().items()}
            views |= self._vectors_of(slot)
        weights = views["class_weights"][column] if self._has_weights(slot) else None
        return Row(
            **views,
            batch_sizes=tuple(self._sizes(slot)),
            column=column,
            own_class_weights=weights,
            key=self.keys[row],
        )

    def whole_row(self, slot: int) -> Row:
        """The row of a slot with all it holds, what the slot itself must not meet, too.

        In it, what algorithms keep can be renewed in place.
        """
        row, _ = self.schedule.cell(slot)
        sizes = tuple(self.batch_sizes[row].tolist())
        return replace(self.row(slot), batch_sizes=sizes)

    def set_key(self, slot: int, key: Key) -> None:
        """Say on what the numbers that are kept in a slot's row depend now."""
        self.keys[self.schedule.cell(slot)[0]] = key

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

    def remember(
        self,
        slot: int,
        class_weights: torch.Tensor,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        notes: Notes | None = None,
    ) -> None:
        """Store a copy of a slot's snapshot in the place of the oldest of its row.

        Args:
            class_weights: (C K, D), detached; the memory follows its device. They are
                left out where the snapshot belongs to those of an earlier one.
            embeddings: (B, D), detached.
            labels: (B,).
            notes: what the algorithm wants to be kept beside the snapshot.

        Raises:
            MemoryError: there is no room; what was stored is still there.
        """
        row, column = self.schedule.cell(slot)
        grid = self._make_room(class_weights, len(labels), notes)
        self.batch_sizes[row, column] = 0  # until all of it is there
        if not self._has_weights(slot):
            weights_cell = self.schedule.weights_row(slot), column
            self._write("class_weights", weights_cell, class_weights)
            if self.schedule.shares_class_weights:
                self.stretches[weights_cell] = self.schedule.stretch(slot)
        self._write("embeddings", (row, column), embeddings)
        _fill(grid.labels[row, column], labels)
        if notes is not None:
            _fill(grid.own[row, column], notes.own)
            _fill(grid.against[row, column], notes.against)
            _fill(grid.against[row, :, :, column].t(), notes.of_others.t())
            _fill(grid.against[row, column, :, column], notes.against[:, column])
            self.keys[row] = notes.key
        self.batch_sizes[row, column] = len(labels)

    def forget(self, slot: int) -> None:
        """Leave a hole at a slot: it counts, and is never met again."""
        self.batch_sizes[self.schedule.cell(slot)] = 0

    def forget_class_weights(self, slot: int) -> None:
        """Leave a hole where a slot's class weights are, and all that belongs to it."""
        if not self._has_weights(slot):
            return
        schedule, (_, column) = self.schedule, self.schedule.cell(slot)
        weights_row = schedule.weights_row(slot)
        self.stretches[weights_row, column] = -1
        for row in range(schedule.num_rows):
            if schedule.weights_row(row) == weights_row:
                self.batch_sizes[row, column] = 0

    def fetch_ahead(self, slot: int) -> None:
        """Begin to copy what this slot will meet, if it lies on another device."""
        if self._ahead is not None and self.columns_met(slot):
            self._ahead.fetch(self._rows_of(slot), self._vectors())

    def holds(self, class_weights: torch.Tensor) -> bool:
        """Whether snapshots with class weights of this shape fit in."""
        grid = self.grid
        return grid is None or grid.class_weights.shape[2:] == class_weights.shape

    def tensors(self) -> dict[str, torch.Tensor]:
        """All storage by name; empty before anything is stored."""
        if self._ahead is not None:
            self._ahead.finish()
        return {} if self.grid is None else self.grid.tensors()

    def replace(
        self,
        grid: Grid | None,
        batch_sizes: torch.Tensor,
        stretches: torch.Tensor,
        keys: list[Key],
    ) -> None:
        """Take over other contents, which fit."""
        if self._ahead is not None:
            self._ahead.finish()
        self.grid, self.batch_sizes = grid, batch_sizes
        self.stretches, self.keys = stretches, keys
        self._ahead = None

    def _sizes(self, slot: int) -> list[int]:
        row, column = self.schedule.cell(slot)
        sizes: list[int] = self.batch_sizes[row].tolist()
        if self.schedule.num_columns > self.schedule.num_steps:
            sizes[column] = 0  # this block's own snapshot, or one that is too old
        return sizes

    def _vectors(self) -> dict[str, torch.Tensor]:
        assert self.grid is not None
        return {name: getattr(self.grid, name) for name in _VECTORS}

    def _notes(self) -> dict[str, torch.Tensor]:
        assert self.grid is not None
        return {name: getattr(self.grid, name) for name in ("labels", "own", "against")}

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
        cell = self.schedule.weights_row(slot), self.schedule.cell(slot)[1]
        return self.schedule.shares_class_weights and int(
            self.stretches[cell]
        ) == self.schedule.stretch(slot)

    def _write(self, name: str, cell: tuple[int, int], values: torch.Tensor) -> None:
        target = self._vectors()[name][cell]
        if self._ahead is not None:
            self._ahead.write(name, target, values)
        else:
            _fill(target, values)

    def _make_room(
        self, class_weights: torch.Tensor, batch_size: int, notes: Notes | None
    ) -> Grid:
        """Allocate at the first snapshot, grow for a larger one, follow its device."""
        has = self.grid.size if self.grid is not None else None
        units = 0 if notes is None else len(notes.own)
        size = Size(
            self.schedule.num_weights_rows,
            self.schedule.num_rows,
            self.schedule.num_columns,
            class_weights.shape[0],
            class_weights.shape[1],
            max(batch_size, has.batch_size if has else 0),
            max(units, has.units if has else 0),
            *self._dtypes(class_weights.dtype),
        )
        return self._place(size, class_weights.device)

    def _dtypes(self, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
        """Of vectors and of what algorithms keep, for class weights of a dtype."""
        return self.dtype or dtype, torch.promote_types(dtype, torch.float32)

    def _place(self, size: Size, device: torch.device) -> Grid:
        """The grid in this size, for this device."""
        storage = device if self.device == "same" else torch.device(self.device)
        if self.grid is None:
            self.grid = Grid.allocate(size, device, storage)
        elif not self.grid.is_like(size, device, storage):
            if self._ahead is not None:
                self._ahead.finish()
            had = self.grid.size
            is_converted = (had.dtype, had.exact) != (size.dtype, size.exact)
            self.grid = self.grid.copied_to(size, device, storage)
            self._ahead = None
            if is_converted:
                self._forget_overflown(self.grid)
        if self._ahead is None and self._is_elsewhere(storage, device):
            self._ahead = CopiedAhead(device)
        return self.grid

    def _forget_overflown(self, grid: Grid) -> None:
        """Make holes of snapshots that are too large for the dtypes they now have."""
        for row, column in self.batch_sizes.nonzero().tolist():
            filled = self.batch_sizes[row].nonzero().flatten().to(grid.against.device)
            numbers = (
                grid.class_weights[self.schedule.weights_row(row), column],
                grid.embeddings[row, column],
                grid.own[row, column],
                grid.against[row, column].index_select(1, filled),
            )
            if not all(bool(one.isfinite().all()) for one in numbers):
                self.batch_sizes[row, column] = 0

    @staticmethod
    def _is_elsewhere(storage: torch.device, device: torch.device) -> bool:
        return storage != device

    def __getstate__(self) -> dict[str, Any]:
        self.tensors()  # waits for what is being written
        return {**self.__dict__, "_ahead": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore(state)
        # What is sent to a spawned process comes in memory shared with all others.
        self.batch_sizes = _own(self.batch_sizes)
        self.stretches = _own(self.stretches)
        if self.grid is not None:
            for name, tensor in self.grid.tensors().items():
                setattr(self.grid, name, _own(tensor))

    def __deepcopy__(self, memo: dict[int, Any]) -> SnapshotMemory:
        """Without the copy that __setstate__ makes of tensors on a GPU."""
        new = memo[id(self)] = type(self).__new__(type(self))
        new._restore(copy.deepcopy(self.__getstate__(), memo))
        return new

    def _restore(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.grid is not None:
            self._place(self.grid.size, self.grid.labels.device)


_VECTORS = ("class_weights", "embeddings")


def _own(tensor: torch.Tensor) -> torch.Tensor:
    is_shared = tensor.is_shared()  # type: ignore[no-untyped-call]
    return tensor.clone() if is_shared else tensor


def _fill(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write to the beginning of dimension 0, and zeros behind it.

    Not even a weight of 0 would make what a bad batch has left there harmless.
    """
    target[: len(values)] = values.to(target)
    target[len(values) :] = 0
