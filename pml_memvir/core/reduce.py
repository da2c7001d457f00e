"""From log-sum-exps and terms to one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Union

import torch

Weights = tuple[Union[torch.Tensor, float], Union[torch.Tensor, float]]


class Reduce(ABC):
    """From log-sum-exps and terms of all anchors, actual ones first, to the loss.

    Attributes:
        is_linear: whether it is linear in both: its gradient is known before they are.
    """

    is_linear = False

    @abstractmethod
    def __call__(self, lse: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        """Of all anchors (R,) each; a number."""

    def gradient(self, lse: torch.Tensor, terms: torch.Tensor) -> Weights:
        """By both; where linear, the same everywhere. A float is that of each."""
        with torch.enable_grad():
            both = [x.detach().requires_grad_() for x in (lse, terms)]
            value = self(*both)
            if not value.requires_grad:
                return torch.zeros_like(lse), torch.zeros_like(terms)
            a, b = torch.autograd.grad(
                value, both, allow_unused=True, materialize_grads=True
            )
        return a, b
