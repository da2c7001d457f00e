"""What a training step saw of its virtual classes: to watch, not to train on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shares:
    """The softmax of actual embeddings in logarithms, as a step has computed it anyway.

    Attributes:
        total: (B,), log-sum-exp over actual and virtual classes.
        actual: (B,), over the actual classes.
        copies: (B, N), logits of the old copies of each one's own class; -inf where
            there is no snapshot.
    """

    total: torch.Tensor
    actual: torch.Tensor
    copies: torch.Tensor

    def means(self) -> tuple[float, float, float]:
        """Mean probability on actual classes, own copies and other copies; sum 1."""
        actual = (self.actual - self.total).exp().mean()
        own = (self.copies.logsumexp(dim=1) - self.total).exp().mean()
        a, b = torch.stack([actual, own]).tolist()
        return a, b, max(0.0, 1 - a - b)


@dataclass(frozen=True)
class Insight:
    """Of one step. Tensors stay where they are until a number is asked for.

    Attributes:
        lse, terms: (R,), of all anchors, actual ones first.
        sign_of_terms: of terms in losses.
        num_actual: A.
        shares: None where a loss has no softmax over classes for an embedding.
    """

    lse: torch.Tensor
    terms: torch.Tensor
    sign_of_terms: int
    num_actual: int
    shares: Shares | None = None

    @property
    def actual_losses(self) -> torch.Tensor:
        """(A,), of the actual anchors, before the reducer."""
        return self._losses[: self.num_actual]

    @property
    def virtual_losses(self) -> torch.Tensor:
        """(R - A,), of virtual anchors; empty without any."""
        return self._losses[self.num_actual :]

    @property
    def _losses(self) -> torch.Tensor:
        return self.lse + self.sign_of_terms * self.terms
