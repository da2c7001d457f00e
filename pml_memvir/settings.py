"""MemVir's settings as they can be read, and what memory they ask for."""

from __future__ import annotations

import torch

from . import algorithms, checks
from .memory import SnapshotMemory
from .schedule import Schedule
from .storage import Size


class Settings(torch.nn.Module):
    """The part of MemVir that says how it is set up."""

    _memory: SnapshotMemory
    _calls: int

    @property
    def step(self) -> int:
        """t, training steps so far."""
        return self._schedule.step(self._calls)

    @property
    def num_steps(self) -> int:
        """N. Fixed, as the memory is laid out for it."""
        return self._schedule.num_steps

    @property
    def step_gap(self) -> int:
        """M. Fixed, as the memory is laid out for it."""
        return self._schedule.step_gap

    @property
    def accumulation_steps(self) -> int:
        """Forward calls that make a step. Fixed."""
        return self._schedule.accumulation_steps

    @property
    def snapshot_every(self) -> int:
        """Steps of which one leaves a snapshot. Fixed."""
        return self._schedule.snapshot_every

    @property
    def class_weights_every(self) -> int | None:
        """Steps that share class weights; None: each snapshot has its own. Fixed."""
        return self._schedule.class_weights_every

    @property
    def warmup_steps(self) -> int:
        """U. Can be set at any time; the step counter goes on, and what is in the
        memory by then is still met until it is too old."""
        return self._warmup_steps

    @warmup_steps.setter
    def warmup_steps(self, value: int) -> None:
        self._warmup_steps = checks.integer("warmup_steps", value, least=0)

    @staticmethod
    def estimate_nbytes(
        num_steps: int,
        step_gap: int,
        num_classes: int,
        embedding_size: int,
        batch_size: int,
        memory_dtype: torch.dtype = torch.float32,
        *,
        centers_per_class: int = 1,
        accumulation_steps: int = 1,
        snapshot_every: int = 1,
        class_weights_every: int | None = None,
        algorithm: str = "row_softmax",
    ) -> int:
        """Bytes that the memory will occupy, what is cached in it included.

        Args:
            num_steps: N.
            step_gap: M.
            num_classes: C.
            embedding_size: D.
            batch_size: B of the largest forward call; of all ranks, if gathered.
            memory_dtype: of embeddings and class weights. Cached numbers are counted as
                float32, or float64 where this is; in truth they follow the class
                weights' own dtype.
            centers_per_class: K.
            accumulation_steps: as for MemVir.
            snapshot_every: as for MemVir.
            class_weights_every: as for MemVir.
            algorithm: what `algorithm_used` says: "row_softmax", "proxy_anchor" or
                "concatenation".

        Raises:
            ValueError: a number is out of range, or a name not one of these.
            TypeError: a number is no integer.
        """
        schedule = checks.schedule(
            num_steps, step_gap, accumulation_steps, snapshot_every, class_weights_every
        )
        sizes = {
            "num_classes": num_classes,
            "centers_per_class": centers_per_class,
            "embedding_size": embedding_size,
            "batch_size": batch_size,
        }
        for name, value in sizes.items():
            checks.integer(name, value, least=1)
        kind = checks.one_of("algorithm", algorithm, algorithms.KINDS)
        units = {"row_softmax": batch_size, "proxy_anchor": num_classes}.get(kind, 0)
        dtype = checks.memory_dtype(memory_dtype) or torch.float32
        return Size(
            schedule.num_weights_rows,
            schedule.num_rows,
            schedule.num_columns,
            num_classes * centers_per_class,
            embedding_size,
            batch_size,
            units,
            dtype,
            torch.promote_types(dtype, torch.float32),
        ).nbytes

    @property
    def _schedule(self) -> Schedule:
        return self._memory.schedule
