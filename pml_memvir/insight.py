"""What a training step saw of its virtual classes: to watch, not to train on."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Shares:
    """The softmax of actual rows in logarithms, as a step has computed them anyway.

    Attributes:
        total: (B,), log-sum-exp over actual and virtual classes.
        actual: (B,), over the actual classes.
        own_copies: (B, N), logits of the old copies of each row's own class; -inf where
            there is no snapshot.
    """

    total: torch.Tensor
    actual: torch.Tensor
    own_copies: torch.Tensor

    def means(self) -> tuple[float, float, float]:
        """Mean probability on actual classes, own copies and other copies; sum 1."""
        actual = (self.actual - self.total).exp().mean()
        own = (self.own_copies.logsumexp(dim=1) - self.total).exp().mean()
        a, b = torch.stack([actual, own]).tolist()
        return a, b, max(0.0, 1 - a - b)


@dataclass(frozen=True)
class Insight:
    """Of one step. Tensors stay where they are until a number is asked for.

    Attributes:
        actual_losses: (B,), before the reducer.
        virtual_losses: (R,), of virtual rows; empty without any.
        shares: None where a loss has no softmax over classes for a row.
    """

    actual_losses: torch.Tensor
    virtual_losses: torch.Tensor
    shares: Shares | None = None
