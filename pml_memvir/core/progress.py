"""How far a training is, and what its last step saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Insight:
    """What a step saw of its virtual classes: to watch, not to train on.

    Tensors stay where they are until a number is asked for.

    Attributes:
        lse, terms: (R,), of all anchors, actual ones first.
        sign_of_terms: of terms in losses.
        lse_of_self: (A,), of actual anchors over actual candidates.
        copies: (A, n) each, logits of the old copies of each one's own class; empty
            where a loss has no softmax over classes.
    """

    lse: torch.Tensor
    terms: torch.Tensor
    sign_of_terms: int
    lse_of_self: torch.Tensor
    copies: list[torch.Tensor]

    @property
    def actual_losses(self) -> torch.Tensor:
        """(A,), of the actual anchors, before the reducer."""
        return self._losses[: len(self.lse_of_self)]

    @property
    def virtual_losses(self) -> torch.Tensor:
        """(R - A,), of virtual anchors; empty without any."""
        return self._losses[len(self.lse_of_self) :]

    def shares(self) -> tuple[float, float, float]:
        """Mean probability on actual classes, own copies and other copies; sum 1."""
        if not self.copies:
            return math.nan, math.nan, math.nan
        total = self.lse[: len(self.lse_of_self)]
        actual = (self.lse_of_self - total).exp().mean()
        own = (torch.cat(self.copies, dim=1).logsumexp(dim=1) - total).exp().mean()
        a, b = torch.stack([actual, own]).tolist()
        return a, b, max(0.0, 1 - a - b)

    @property
    def _losses(self) -> torch.Tensor:
        return self.lse + self.sign_of_terms * self.terms


@dataclass
class Progress:
    """What is counted, and what the last step saw.

    Attributes:
        calls: training calls so far.
        warmup_steps: U, steps before the first is remembered.
        num_virtual_steps: snapshots that the last training step met.
        num_non_finite: batches that were not remembered for NaN or infinity.
        num_emptied: times that the memory was emptied as it did not fit any more.
        insight: of the last step with virtual classes.
    """

    calls: int = 0
    warmup_steps: int = 0
    num_virtual_steps: int = 0
    num_non_finite: int = 0
    num_emptied: int = 0
    insight: Insight | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "insight": None}  # neither copied nor saved
