"""What a step takes, meets and leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from .progress import Insight


@dataclass(frozen=True)
class Batch:
    """What a call computes with.

    Attributes:
        embeddings: (B, D).
        labels: (B,), int64, on the device of the embeddings.
        indices_tuple: a miner's output, or None.
        misfits: (B,), by how much labels were not 0 to C-1; None: they were.
    """

    embeddings: torch.Tensor
    labels: torch.Tensor
    indices_tuple: Any
    misfits: torch.Tensor | None

    @property
    def arguments(self) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Those of a loss."""
        return self.embeddings, self.labels, self.indices_tuple


@dataclass(frozen=True)
class Snapshots:
    """Copies of n snapshots, to look at, as the memory holds them.

    That is in `memory_dtype` and, unless the loss goes by concatenation, normalised
    where the loss normalises.

    Attributes:
        class_weights: (n, C K, D).
        embeddings: (n, B, D), zeros behind the end of a shorter batch.
        labels: (n, B), zeros behind the end of a shorter batch.
        batch_sizes: n integers, how many of the B embeddings are real.
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
        """All real embeddings, one snapshot after another.

        Returns:
            embeddings (R, D) and labels (R,), where a label of the i-th snapshot
            (from 1) is shifted by i `num_classes`: each belongs to its own classes.
        """
        shift = torch.arange(1, len(self) + 1, device=self.labels.device)
        labels = self.labels + num_classes * shift.unsqueeze(1)
        both = self.embeddings.flatten(0, 1), labels.flatten()
        a, b = (_taken(x, self.batch_sizes, self.labels) for x in both)
        return a, b


@dataclass(frozen=True)
class Notes:
    """Numbers that an algorithm keeps beside a snapshot, for each of its A anchors.

    Attributes:
        terms: (A,), what a loss has of an anchor besides log-sum-exps.
        lse: (A, N), log-sum-exps over the candidates of each cell, itself included.
        lse_of_met: (N, A), log-sum-exps of each cell's anchors over its candidates.
        settings: a number for the settings of the loss that these depend on.
    """

    terms: torch.Tensor
    lse: torch.Tensor
    lse_of_met: torch.Tensor
    settings: int


@dataclass(frozen=True)
class Outcome:
    """A step's loss, and its snapshot in the form in which it is to be met.

    Attributes:
        value: what the loss's reducer returned.
        class_weights: (C K, D), detached.
        embeddings: (B, D), detached.
        notes: makes the numbers to keep beside the snapshot, if it is one to be kept.
        insight: numbers to watch, where they cost nothing.
    """

    value: Any
    class_weights: torch.Tensor
    embeddings: torch.Tensor
    notes: Callable[[], Notes] | None = None
    insight: Insight | None = None


@dataclass(frozen=True)
class Past:
    """What one step meets: a track of the memory, in place. Views, for reading only.

    Attributes:
        class_weights, embeddings, labels: as in Snapshots, for all N cells.
        terms, lse: `Notes.terms` (N, A) and `Notes.lse` (N, A, N) of each cell.
        batch_sizes: N integers; 0 for an empty cell.
        cell: the one that the step's own snapshot will replace.
        shared_class_weights: (C K, D), those that the step's own snapshot belongs to,
            if an earlier one has brought them; None: it brings its own.
        settings: `Notes.settings` of the whole track.
    """

    class_weights: torch.Tensor
    embeddings: torch.Tensor
    labels: torch.Tensor
    terms: torch.Tensor
    lse: torch.Tensor
    batch_sizes: tuple[int, ...]
    cell: int
    shared_class_weights: torch.Tensor | None
    settings: int

    @cached_property
    def filled(self) -> list[int]:
        """Cells that hold a snapshot."""
        return [cell for cell, size in enumerate(self.batch_sizes) if size]

    @cached_property
    def filled_index(self) -> torch.Tensor:
        """The same, to select by."""
        return _sent(self.filled, self.labels.device)

    @cached_property
    def real_labels(self) -> torch.Tensor:
        """Those of all real embeddings, flattened."""
        return _taken(self.labels.flatten(), self.batch_sizes, self.labels)

    @cached_property
    def padding(self) -> torch.Tensor | None:
        """(N, B), which embeddings of filled cells are not real; None: all are."""
        length = self.labels.shape[1]
        if all(size in (0, length) for size in self.batch_sizes):
            return None
        each = torch.arange(length, device=self.labels.device)
        sizes = _sent(self.batch_sizes, self.labels.device)
        return each >= sizes.unsqueeze(1)

    def chunks(self, most: int) -> Iterator[slice]:
        """Filled cells as contiguous slices of at most `most`."""
        start = None
        for cell, size in enumerate((*self.batch_sizes, 0)):
            if start is not None and (not size or cell - start == most):
                yield slice(start, cell)
                start = None
            if size and start is None:
                start = cell


def _sent(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Numbers of the host on a device, which is not waited for."""
    made = torch.tensor(numbers, dtype=torch.long, device="cpu")
    return made.to(device, non_blocking=True)


def real_indices(sizes: tuple[int, ...], like: torch.Tensor) -> torch.Tensor | None:
    """Of a tensor (n, length, ...) that holds `sizes`: indices into it, flattened.

    None: all of it.
    """
    length, device = like.shape[1], like.device
    if all(size == length for size in sizes):
        return None
    starts = range(0, len(sizes) * length, length or 1)
    parts = [torch.arange(i, i + size) for i, size in zip(starts, sizes)]
    return torch.cat(parts).to(device, non_blocking=True)


def _taken(
    flat: torch.Tensor, sizes: tuple[int, ...], like: torch.Tensor
) -> torch.Tensor:
    real = real_indices(sizes, like)
    return flat if real is None else flat[real]
