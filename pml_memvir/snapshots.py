"""Snapshots: as copies to look at, and as a row of the memory to compute with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True)
class Snapshots:
    """Copies of n snapshots, to look at, as the memory holds them.

    That is in `memory_dtype` and, unless the loss goes by concatenation, normalised
    where the loss normalises.

    Attributes:
        class_weights: (n, C K, D).
        embeddings: (n, B, D), zeros behind the end of a shorter batch.
        labels: (n, B), zeros behind the end of a shorter batch.
        batch_sizes: n integers, how many of the B rows are real.
        steps: n integers, the steps that left the snapshots, in no order. With
            `class_weights_every` the class weights are those of earlier steps.
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
        key: of the settings of the loss that these numbers depend on.
    """

    own: torch.Tensor
    against: torch.Tensor
    of_others: torch.Tensor
    key: int


@dataclass(frozen=True)
class Row:
    """What one step meets: a row of the grid, in place. Views, for reading only.

    Attributes:
        class_weights, embeddings, labels: as in Snapshots, for all N cells.
        own: (N, R), `Notes.own` of each cell.
        against: (N, R, N), `Notes.against` of each cell.
        batch_sizes: N integers; 0 for an empty cell.
        column: the cell that the step's own snapshot will replace.
        own_class_weights: (C K, D), those that the step's own snapshot belongs to, if
            an earlier one has brought them; None: it brings its own.
        key: what the notes of this row depend on, as it was given with them.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    own: torch.Tensor
    against: torch.Tensor
    batch_sizes: tuple[int, ...]
    column: int
    own_class_weights: torch.Tensor | None
    key: int

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
