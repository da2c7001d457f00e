"""The memory: a grid of snapshots. It knows nothing of losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch

Key = tuple[float, ...]


@dataclass(frozen=True)
class Snapshots:
    """Copies of n snapshots, to look at.

    Attributes:
        class_weights: (n, C K, D).
        embeddings: (n, B, D), zeros behind the end of a shorter batch.
        labels: (n, B), zeros behind the end of a shorter batch.
        batch_sizes: n integers, how many of the B rows are real.
        steps: n integers, the steps that left the snapshots, in no order.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    batch_sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.batch_sizes)

    def flat(self, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """All real rows, one snapshot after another.

        Returns:
            embeddings (R, D) and labels (R,), where a label of the i-th snapshot
            (from 1) is shifted by i `num_classes`: each belongs to its own classes.
        """
        shift = torch.arange(1, len(self) + 1, device=self.labels.device)
        labels = self.labels + num_classes * shift.unsqueeze(1)
        real = real_rows(self.batch_sizes, self.labels)
        return self.embeddings.flatten(0, 1)[real], labels.flatten()[real]


@dataclass(frozen=True)
class Notes:
    """Numbers that an algorithm keeps beside a snapshot: R units, N cells a row.

    Attributes:
        own: (R,), of the snapshot alone.
        against: (R, N), of the snapshot against each cell of its row, itself included.
        of_others: (N, R), of each cell of the row against the snapshot.
        key: settings of the loss that these numbers depend on.
    """

    own: torch.Tensor
    against: torch.Tensor
    of_others: torch.Tensor
    key: Key


@dataclass(frozen=True)
class Row:
    """What one step meets: a row of the grid, in place. Views, for reading only.

    Attributes:
        class_weights, embeddings, labels: as in Snapshots, for all N cells.
        own: (N, R), `Notes.own` of each cell.
        against: (N, R, N), `Notes.against` of each cell.
        batch_sizes: N integers; 0 for an empty cell.
        column: the cell that the step's own snapshot will replace.
        key: what the notes of this row depend on, as it was given with them.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    own: torch.Tensor
    against: torch.Tensor
    batch_sizes: tuple[int, ...]
    column: int
    key: Key

    @cached_property
    def real(self) -> torch.Tensor:
        """Which rows of `labels` are real: indices into it, flattened."""
        return real_rows(self.batch_sizes, self.labels)

    @cached_property
    def filled(self) -> list[int]:
        """Columns that hold a snapshot."""
        return [column for column, size in enumerate(self.batch_sizes) if size]

    def chunks(self, most: int) -> Iterator[slice]:
        """Filled columns as contiguous slices of at most `most`."""
        start = None
        for column, size in enumerate((*self.batch_sizes, 0)):
            if start is not None and (not size or column - start == most):
                yield slice(start, column)
                start = None
            if size and start is None:
                start = column


def real_rows(batch_sizes: tuple[int, ...], labels: torch.Tensor) -> torch.Tensor:
    """Which rows of labels (n, B) are real: indices into them, flattened."""
    length = labels.shape[1]
    if all(size == length for size in batch_sizes):
        return torch.arange(labels.numel(), device=labels.device)
    indices = [
        torch.arange(i * length, i * length + size)
        for i, size in enumerate(batch_sizes)
    ]
    return torch.cat(indices).to(labels.device, non_blocking=True)


@dataclass
class _Grid:
    """All storage: (M+1, N, ...) each."""

    class_weights: torch.Tensor  # ..., C K, D
    embeddings: torch.Tensor  # ..., B, D
    labels: torch.Tensor  # ..., B
    own: torch.Tensor  # ..., R
    against: torch.Tensor  # ..., R, N


class SnapshotMemory:
    """A grid of (step_gap + 1) rows by num_steps cells, one snapshot a cell.

    Step t meets the snapshots of steps t - (M+1), t - 2 (M+1), ..., t - N (M+1):
    only steps of the same residue t mod (M+1) ever meet. So they share a row, which
    step t reads whole; its own snapshot then replaces the oldest cell of that row.
    Position follows from t alone, so a cell left empty keeps all ages right.

    Not a torch.nn.Module, and its tensors are no buffers: broadcasting them between
    processes would be wrong, and their shape is not known before the first step.

    Args:
        num_steps: N, cells a row.
        step_gap: M, steps between two that meet.
        dtype: of stored embeddings and class weights; default that of the first
            class weights, and of later ones where that changes.
    """

    def __init__(
        self, num_steps: int, step_gap: int, dtype: torch.dtype | None = None
    ) -> None:
        self.num_steps = num_steps
        self.step_gap = step_gap
        self.dtype = dtype
        self.reset()

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        shape = (self.step_gap + 1, self.num_steps)
        self._batch_sizes = torch.zeros(shape, dtype=torch.long)  # 0: an empty cell
        self._grid: _Grid | None = None
        self._keys: list[Key] = [()] * (self.step_gap + 1)

    @property
    def nbytes(self) -> int:
        """Bytes of storage allocated for snapshots."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def to(self, device: torch.device) -> None:
        """Move the storage, as after loading a checkpoint of another device."""
        if self._grid is not None and self._grid.labels.device != device:
            moved = {name: t.to(device) for name, t in self._tensors().items()}
            self._grid = _Grid(**moved)

    def row(self, step: int, device: torch.device | None = None) -> Row:
        """The row of step `step`; before anything is stored, an empty one."""
        row, column = self._cell(step)
        if self._grid is None:
            none = torch.zeros(self.num_steps, 0, 1, device=device)
            views = dict.fromkeys(("class_weights", "embeddings"), none)
            views |= dict.fromkeys(("labels", "own"), none[:, :, 0])
            views["against"] = none.new_zeros(self.num_steps, 0, self.num_steps)
        else:
            views = {name: tensor[row] for name, tensor in self._tensors().items()}
        sizes = tuple(self._batch_sizes[row].tolist())
        return Row(**views, batch_sizes=sizes, column=column, key=self._keys[row])

    def snapshots(self, step: int) -> Snapshots | None:
        """Copies of the snapshots that step `step` meets, or None."""
        row = self.row(step)
        if not row.filled:
            return None
        return Snapshots(
            row.class_weights[row.filled],
            row.embeddings[row.filled],
            row.labels[row.filled],
            tuple(row.batch_sizes[column] for column in row.filled),
            tuple(self._last_step(column, before=step) for column in row.filled),
        )

    def remember(
        self,
        step: int,
        class_weights: torch.Tensor,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        notes: Notes | None = None,
    ) -> None:
        """Store a copy of step `step` in the place of the oldest snapshot of its row.

        Args:
            class_weights: (C K, D), detached; the memory follows its device.
            embeddings: (B, D), detached.
            labels: (B,).
            notes: what the algorithm wants to be kept beside the snapshot.
        """
        row, column = self._cell(step)
        size = len(labels)
        grid = self._make_room(class_weights, size, notes)
        grid.class_weights[row, column] = class_weights.to(grid.class_weights)
        for tensor, values in ((grid.embeddings, embeddings), (grid.labels, labels)):
            tensor[row, column, :size] = values.to(tensor)
            tensor[row, column, size:] = 0
        if notes is not None:
            _fill(grid.own[row, column], notes.own)
            _fill(grid.against[row, column], notes.against)
            _fill(grid.against[row, :, :, column].t(), notes.of_others.t())
            _fill(grid.against[row, column, :, column], notes.against[:, column])
            self._keys[row] = notes.key
        self._batch_sizes[row, column] = size

    def forget(self, step: int) -> None:
        """Leave a hole at step `step`: it counts, and is never met again."""
        self._batch_sizes[self._cell(step)] = 0

    def holds(self, class_weights: torch.Tensor) -> bool:
        """Whether snapshots with class weights of this shape fit in."""
        grid = self._grid
        return grid is None or grid.class_weights.shape[2:] == class_weights.shape

    def state(self) -> dict[str, Any]:
        """Everything there is: tensors by name, and the keys of the rows."""
        tensors = self._tensors()
        return {"batch_sizes": self._batch_sizes, "keys": list(self._keys), **tensors}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a copy of what `state` gave; all of it or, on an error, nothing.

        Raises:
            ValueError: tensors are missing or their shapes do not fit this grid.
        """
        sizes = state.get("batch_sizes")
        shape = (self.step_gap + 1, self.num_steps)
        if sizes is None or sizes.shape != shape:
            raise ValueError(
                f"the memory's batch_sizes must have shape {shape}, "
                f"got {None if sizes is None else tuple(sizes.shape)}"
            )
        names = [field.name for field in fields(_Grid)]
        found = [name for name in names if name in state]
        if found and found != names or not found and sizes.any():
            raise ValueError(f"the memory's state must hold {names}, got {list(state)}")
        grid = _Grid(**{name: state[name].clone() for name in names}) if found else None
        if grid is not None and not self._fits(grid, sizes):
            raise ValueError(
                "the memory's tensors do not fit together: "
                + ", ".join(f"{name} {tuple(state[name].shape)}" for name in names)
            )
        keys = [tuple(float(x) for x in key) for key in state.get("keys", ())]
        if len(keys) != self.step_gap + 1:
            raise ValueError(f"the memory must have {shape[0]} keys, got {len(keys)}")
        self._grid, self._keys = grid, keys
        self._batch_sizes = sizes.cpu().clone()

    def _fits(self, grid: _Grid, sizes: torch.Tensor) -> bool:
        """Whether loaded tensors have the shapes of one grid."""
        shape = (self.step_gap + 1, self.num_steps)
        weights, embeddings, labels = grid.class_weights, grid.embeddings, grid.labels
        return (
            all(tensor.shape[:2] == shape for tensor in vars(grid).values())
            and (weights.ndim, embeddings.ndim, labels.ndim) == (4, 4, 3)
            and weights.shape[3] == embeddings.shape[3]
            and embeddings.shape[2] == labels.shape[2]
            and grid.against.shape == (*grid.own.shape, self.num_steps)
            and int(sizes.max()) <= labels.shape[2]
            and int(sizes.min()) >= 0
        )

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {} if self._grid is None else dict(vars(self._grid))

    def _cell(self, step: int) -> tuple[int, int]:
        round_, row = divmod(step, self.step_gap + 1)
        return row, round_ % self.num_steps

    def _last_step(self, column: int, before: int) -> int:
        """The last step that shares the row of step `before` and wrote to `column`."""
        _, own_column = self._cell(before)
        rounds = (own_column - column) % self.num_steps or self.num_steps
        return before - rounds * (self.step_gap + 1)

    def _make_room(
        self, class_weights: torch.Tensor, batch_size: int, notes: Notes | None
    ) -> _Grid:
        """Allocate at the first snapshot, grow for a larger one, follow device."""
        cells = (self.step_gap + 1, self.num_steps)
        size = class_weights.shape[1]
        units = 0 if notes is None else len(notes.own)
        dtype = self.dtype or class_weights.dtype
        exact = torch.promote_types(class_weights.dtype, torch.float32)
        device = class_weights.device
        if self._grid is None:
            new = class_weights.new_zeros
            self._grid = _Grid(
                new((*cells, *class_weights.shape), dtype=dtype),
                new((*cells, batch_size, size), dtype=dtype),
                new((*cells, batch_size), dtype=torch.long),
                new((*cells, units), dtype=exact),
                new((*cells, units, self.num_steps), dtype=exact),
            )
        grid = self._grid
        rows = max(batch_size, grid.labels.shape[2])
        units = max(units, grid.own.shape[2])
        grid.class_weights = grid.class_weights.to(device, dtype)
        grid.embeddings = _grown(grid.embeddings.to(device, dtype), rows)
        grid.labels = _grown(grid.labels.to(device), rows)
        grid.own = _grown(grid.own.to(device, exact), units)
        grid.against = _grown(grid.against.to(device, exact), units)
        return grid


def _grown(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """The tensor with its dimension 2 padded to `length` by zeros."""
    missing = length - tensor.shape[2]
    if missing <= 0:
        return tensor
    behind = [0, 0] * (tensor.ndim - 3)
    return torch.nn.functional.pad(tensor, [*behind, 0, missing])


def _fill(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write to the beginning of dimension 0; what is behind belongs to no row."""
    target[: len(values)] = values.to(target)
