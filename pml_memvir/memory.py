"""The memory: a grid of snapshots. It knows nothing of losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Snapshots:
    """The n snapshots that one step meets.

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
        sizes = torch.tensor(self.batch_sizes, device=labels.device)
        real = torch.arange(labels.shape[1], device=labels.device) < sizes.unsqueeze(1)
        return self.embeddings[real], labels[real]


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
    """

    def __init__(self, num_steps: int, step_gap: int) -> None:
        self.num_steps = num_steps
        self.step_gap = step_gap
        self.reset()

    def reset(self) -> None:
        """Empty every cell and free the storage."""
        shape = (self.step_gap + 1, self.num_steps)
        self._batch_sizes = torch.zeros(shape, dtype=torch.long)  # 0: an empty cell
        self._class_weights: torch.Tensor | None = None  # (M+1, N, C K, D)
        self._embeddings: torch.Tensor | None = None  # (M+1, N, B, D)
        self._labels: torch.Tensor | None = None  # (M+1, N, B)

    @property
    def nbytes(self) -> int:
        """Bytes of storage allocated for snapshots."""
        grids = (self._class_weights, self._embeddings, self._labels)
        return sum(g.nbytes for g in grids if g is not None)

    def read(self, step: int) -> Snapshots | None:
        """The snapshots that step `step` meets, or None. Views: copy before writing."""
        row = step % (self.step_gap + 1)
        sizes = self._batch_sizes[row].tolist()
        filled = [column for column, size in enumerate(sizes) if size > 0]
        if not filled:
            return None
        assert self._class_weights is not None
        assert self._embeddings is not None and self._labels is not None
        cells: Any = slice(None) if len(filled) == self.num_steps else filled
        return Snapshots(
            self._class_weights[row][cells],
            self._embeddings[row][cells],
            self._labels[row][cells],
            tuple(sizes[column] for column in filled),
            tuple(self._last_step(column, before=step) for column in filled),
        )

    def remember(
        self,
        step: int,
        class_weights: torch.Tensor,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
    ) -> None:
        """Store a copy of step `step` in the place of the oldest snapshot of its row.

        Args:
            class_weights: (C K, D), detached; the memory takes its dtype and device.
            embeddings: (B, D), detached.
            labels: (B,).
        """
        cell = self._cell(step)
        self._make_room(class_weights, len(labels))
        assert self._class_weights is not None
        assert self._embeddings is not None and self._labels is not None
        size = len(labels)
        self._class_weights[cell] = class_weights
        self._embeddings[cell][:size] = embeddings.to(self._embeddings)
        self._labels[cell][:size] = labels
        self._embeddings[cell][size:] = 0
        self._labels[cell][size:] = 0
        self._batch_sizes[cell] = size

    def forget(self, step: int) -> None:
        """Leave a hole at step `step`: it counts, and is never met again."""
        self._batch_sizes[self._cell(step)] = 0

    def holds(self, class_weights: torch.Tensor) -> bool:
        """Whether snapshots with class weights of this shape fit in."""
        grid = self._class_weights
        return grid is None or grid.shape[2:] == class_weights.shape

    def state(self) -> dict[str, torch.Tensor]:
        """Everything there is, as tensors by name."""
        state = {"batch_sizes": self._batch_sizes}
        if self._class_weights is not None:
            assert self._embeddings is not None and self._labels is not None
            state["class_weights"] = self._class_weights
            state["embeddings"] = self._embeddings
            state["labels"] = self._labels
        return state

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
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
        names = ("class_weights", "embeddings", "labels")
        grids = [state[n].clone() for n in names if n in state]
        if len(grids) not in (0, 3) or (not grids and sizes.any()):
            raise ValueError(f"the memory's state must hold {names}, got {list(state)}")
        if grids:
            weights, embeddings, labels = grids
            fits = (
                all(g.shape[:2] == shape for g in grids)
                and (weights.ndim, embeddings.ndim, labels.ndim) == (4, 4, 3)
                and weights.shape[3] == embeddings.shape[3]
                and embeddings.shape[2] == labels.shape[2]
                and int(sizes.max()) <= labels.shape[2]
                and int(sizes.min()) >= 0
            )
            if not fits:
                raise ValueError(
                    "the memory's tensors do not fit together: "
                    + ", ".join(f"{n} {tuple(state[n].shape)}" for n in names)
                )
            self._class_weights, self._embeddings, self._labels = grids
        else:
            self._class_weights = self._embeddings = self._labels = None
        self._batch_sizes = sizes.cpu().clone()

    def _cell(self, step: int) -> tuple[int, int]:
        round_, row = divmod(step, self.step_gap + 1)
        return row, round_ % self.num_steps

    def _last_step(self, column: int, before: int) -> int:
        """The last step that shares the row of step `before` and wrote to `column`."""
        _, own_column = self._cell(before)
        rounds = (own_column - column) % self.num_steps or self.num_steps
        return before - rounds * (self.step_gap + 1)

    def _make_room(self, class_weights: torch.Tensor, batch_size: int) -> None:
        """Allocate at the first snapshot, grow for a larger batch, follow dtype."""
        grid = (self.step_gap + 1, self.num_steps)
        size = class_weights.shape[1]
        if self._class_weights is None:
            self._class_weights = class_weights.new_zeros(*grid, *class_weights.shape)
            self._embeddings = class_weights.new_zeros(*grid, batch_size, size)
            self._labels = torch.zeros(
                *grid, batch_size, dtype=torch.long, device=class_weights.device
            )
            return
        assert self._embeddings is not None and self._labels is not None
        self._class_weights = self._class_weights.to(class_weights)
        self._embeddings = self._embeddings.to(class_weights)
        self._labels = self._labels.to(class_weights.device)
        missing = batch_size - self._labels.shape[2]
        if missing > 0:
            pad = torch.nn.functional.pad
            self._embeddings = pad(self._embeddings, (0, 0, 0, missing))
            self._labels = pad(self._labels, (0, missing))
