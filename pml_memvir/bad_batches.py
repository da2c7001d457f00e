"""Batches that must not be remembered: wrong labels, NaN and infinity."""

from __future__ import annotations

import functools

import torch

from . import checks
from .deferred import DeferredAnswers
from .memory import SnapshotMemory
from .snapshots import Notes
from .warn import warn

CHOICES = ("skip", "raise")


class BadBatches:
    """Keeps bad batches out of the memory, and counts those with NaN or infinity.

    On a CPU, whether a batch is bad is known at once; on a GPU it is asked at its step
    and answered at a later one, before its snapshot would be met.

    Attributes:
        num_non_finite: batches so far with NaN or infinity in their embeddings or in
            the class weights, as far as answers are there.
    """

    def __init__(self, memory: SnapshotMemory) -> None:
        self.memory = memory
        self.num_non_finite = 0
        self._answers = DeferredAnswers()
        self._has_warned = False

    def reset(self) -> None:
        """Expect no answers any more."""
        self._answers = DeferredAnswers()

    def questions(
        self,
        embeddings: torch.Tensor,
        class_weights: torch.Tensor,
        notes: Notes | None,
        in_range: torch.Tensor,
    ) -> torch.Tensor:
        """What there is to know of a batch: see `settle`.

        What counts is what the memory would hold: its dtype may be too small, and so
        may that of the numbers that are kept with a snapshot.
        """
        vectors: tuple[torch.Tensor, ...] = (embeddings, class_weights)
        if self.memory.dtype is not None:
            vectors = tuple(vector.to(self.memory.dtype) for vector in vectors)
        kept = () if notes is None else (notes.own, notes.against, notes.of_others)
        of_weights = is_finite(vectors[1])
        finite = of_weights & is_finite(vectors[0], *kept)
        return torch.stack([in_range.to(finite.device), finite, of_weights])

    def ask(self, call: int, questions: torch.Tensor) -> None:
        """Ask about the batch of a call, which may be in the memory already."""
        self._answers.put(call, questions)

    def settle(self, needed_up_to: int, num_classes: int) -> None:
        """Turn bad snapshots into holes, waiting for those of calls <= `needed_up_to`.

        Raises:
            ValueError: labels that were on a GPU were not 0 to C-1.
        """
        schedule = self.memory.schedule
        for call, answers in self._answers.take(needed_up_to):
            in_range, finite, class_weights_are = answers
            if in_range and finite:
                continue
            if schedule.stores(call):
                self.memory.forget(schedule.slot(call))
                if not class_weights_are:
                    self.memory.forget_class_weights(schedule.slot(call))
            step = schedule.step(call)
            if not in_range:
                raise ValueError(
                    f"labels of step {step} were not 0 to {num_classes - 1}"
                )
            self.num_non_finite += 1
            if not self._has_warned:
                self._has_warned = True
                warn(
                    f"Step {step} has NaN or infinity in its embeddings or class "
                    "weights: MemVir does not remember it. Said once; "
                    "num_non_finite counts them."
                )


def is_finite(*tensors: torch.Tensor) -> torch.Tensor:
    """Whether all numbers are, as a tensor: a device is not waited for."""
    some = [tensor.detach() for tensor in tensors if tensor.numel()]
    # Not every PyTorch has aminmax in float16.
    some = [t.float() if t.dtype == torch.float16 else t for t in some]
    extremes = [x for tensor in some for x in tensor.aminmax()]  # NaN passes on
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in extremes))
    return torch.stack([x.to(dtype) for x in extremes]).isfinite().all()


def refuse_non_finite(
    step: int, embeddings: torch.Tensor, class_weights: torch.Tensor
) -> None:
    """Raise ValueError if there is NaN or infinity; waits for the device."""
    named = {"embeddings": embeddings, "class weights": class_weights}
    bad = [name for name, tensor in named.items() if not is_finite(tensor)]
    if bad:
        raise ValueError(
            f"the {' and '.join(bad)} of step {step} have NaN or infinity; with "
            f'on_non_finite="{CHOICES[0]}" such a step is not remembered, and the loss '
            "returned for a GradScaler to see"
        )


def on_non_finite(value: str) -> str:
    return checks.one_of("on_non_finite", value, CHOICES)
