"""Batches that must not be remembered: wrong labels, NaN and infinity."""

from __future__ import annotations

import functools
import math

import torch

from ..core.memory import SnapshotMemory
from ..core.progress import Progress
from ..core.snapshots import Notes, Outcome
from ..core.values import one_of
from ..core.warn import warn
from .deferred import DeferredAnswers

CHOICES = ("skip", "raise")


class BadBatches:
    """Keeps bad batches out of the memory, and counts those with NaN or infinity.

    On a CPU, whether a batch is bad is known at once; on a GPU it is asked at its step
    and answered at a later one, before its snapshot would be met.
    """

    def __init__(
        self, memory: SnapshotMemory, progress: Progress, on_non_finite: str
    ) -> None:
        self._memory, self._progress = memory, progress
        self.choice = one_of("on_non_finite", on_non_finite, CHOICES)
        self._has_warned = False
        self.reset()

    def reset(self) -> None:
        """Expect no answers any more."""
        self._answers = DeferredAnswers()
        self._opening: set[int] = set()  # calls whose class weights others share

    def before_step(
        self, step: int, embeddings: torch.Tensor, class_weights: torch.Tensor
    ) -> None:
        """Where that is asked for, raise ValueError for NaN or infinity: it waits."""
        if self.choice != "raise":
            return
        named = {"embeddings": embeddings, "class weights": class_weights}
        bad = [n for n, x in named.items() if not math.isfinite(highest(x.detach())[0])]
        if bad:
            raise ValueError(
                f"the {' and '.join(bad)} of step {step} have NaN or infinity; with "
                f'on_non_finite="{CHOICES[0]}" such a step is not remembered, and the '
                "loss returned for a GradScaler to see"
            )

    def questions(
        self, outcome: Outcome, notes: Notes | None, misfits: torch.Tensor | None
    ) -> torch.Tensor:
        """What there is to know of a batch: see `settle`.

        What counts is what the memory would hold: its dtype may be too small, and so
        may that of the numbers that are kept with a snapshot.
        """
        vectors = [outcome.class_weights, outcome.embeddings]
        if (dtype := self._memory.storage.dtype) is not None:
            vectors = [v.to(dtype) for v in vectors]
        if notes is not None:
            vectors += notes.terms, notes.lse, notes.lse_of_met
        if misfits is None:
            misfits = vectors[1].new_zeros(1)
        return highest(misfits.to(vectors[1].device), *vectors)

    def ask(self, call: int, questions: torch.Tensor, opens: bool) -> None:
        """Ask about the batch of a call, which may be in the memory already.

        Args:
            opens: whether its class weights are kept for those after it, too.
        """
        if opens:
            self._opening.add(call)
        self._answers.put(call, questions)

    def settle(self, needed_up_to: int) -> None:
        """Turn bad snapshots into holes, waiting for those of calls <= `needed_up_to`.

        Raises:
            ValueError: labels that were on a GPU were out of range.
        """
        memory, schedule = self._memory, self._memory.schedule
        while (oldest := self._answers.first(needed_up_to)) is not None:
            call, (misfit, *numbers) = oldest
            slot = schedule.slot(call)
            if memory.is_spoilt(slot):  # which its notes may tell, not the batch
                numbers = numbers[:2]
            is_finite = all(map(math.isfinite, numbers))
            if (misfit or not is_finite) and schedule.stores(call):
                memory.forget(slot)
                if call in self._opening and not math.isfinite(numbers[0]):
                    memory.spoil_class_weights(slot)
            self._answers.pop()  # what has been done may be done twice
            self._opening.discard(call)
            step = schedule.step(call)
            if misfit:
                raise ValueError(
                    f"labels of step {step} were not 0 to C-1, C being the number of "
                    "the loss's classes"
                )
            self._progress.num_non_finite += not is_finite
            if not is_finite and not self._has_warned:
                self._has_warned = True
                warn(
                    f"Step {step} has NaN or infinity in its embeddings or class "
                    "weights, or what memory_dtype cannot hold: MemVir does not "
                    "remember it. Said once; num_non_finite counts them."
                )


def highest(*tensors: torch.Tensor) -> torch.Tensor:
    """The highest absolute value of each that is not empty; NaN passes on."""
    # Not every PyTorch has these in float16.
    half = torch.float16
    some = [t.float() if t.dtype == half else t for t in tensors if t.numel()]
    if some[0].device.type == "cpu":  # whose norms are slow, as is going across rows
        rows = (t if t.is_contiguous() else t.t() for t in some)
        made = [high.maximum(-low) for low, high in (t.aminmax() for t in rows)]
    else:
        made = list(torch._foreach_norm(some, math.inf))
    dtype = functools.reduce(torch.promote_types, {x.dtype for x in made})
    return torch.stack([x if x.dtype == dtype else x.to(dtype) for x in made])
