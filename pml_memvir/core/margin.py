"""A margin on the cosine of each embedding and its own class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import torch

from .form import LEAST_LENGTH

# Cosines (B,), changed each by itself.
Margin = Callable[[torch.Tensor], torch.Tensor]
# Gradients (B, D) along embeddings and along class weights of their classes, if any.
Radial = tuple[Optional[torch.Tensor], Optional[torch.Tensor]]


@dataclass(frozen=True)
class Targets:
    """Target logits with a margin, and their derivatives.

    Attributes:
        logits: (B,).
        slope: (B,), their derivative by what they are without a margin.
        growth: (B,), that by the logarithm of a length; None: all have unit length.
        embeddings, class_weights: (B, D), by |v|^2, of those that keep their length;
            None: they have unit length.
    """

    logits: torch.Tensor
    slope: torch.Tensor
    growth: torch.Tensor | None
    embeddings: torch.Tensor | None
    class_weights: torch.Tensor | None

    @staticmethod
    def of(
        margin: Margin,
        scale: float,
        plain: torch.Tensor,
        embeddings: torch.Tensor | None,
        class_weights: torch.Tensor | None,
    ) -> Targets:
        """With lengths of 1 where there are no vectors, the naive equivalent is

            scale * |x| * |w| * margin(plain / (scale * |x| * |w|))

        Args:
            plain: scale * x.w (B,), target logits without a margin.
            embeddings, class_weights: (B, D), x and w; None: of unit length.
        """
        length: torch.Tensor | float = scale
        by_square: list[torch.Tensor | None] = [None, None]
        for i, vectors in enumerate((embeddings, class_weights)):
            if vectors is not None:
                vectors = vectors.to(plain.dtype)
                of_each = torch.linalg.vector_norm(vectors, dim=1).clamp_(LEAST_LENGTH)
                length = of_each * length
                by_square[i] = vectors / of_each.unsqueeze(1).square()
        cosines = plain / length
        with torch.enable_grad():
            changed = margin(cosines.requires_grad_())
            (slope,) = torch.autograd.grad(changed.sum(), [cosines])
        logits = changed.detach().to(plain.dtype) * length  # it may be more exact
        growth = None
        if isinstance(length, torch.Tensor):
            growth = logits.addcmul(slope, plain, value=-1)
        return Targets(logits, slope, growth, *by_square)

    def radial(self, of_logits: torch.Tensor) -> Radial:
        """What lengths have to do with it, from the gradient (B,) of these logits."""
        if self.growth is None:
            return None, None
        by_length = (of_logits * self.growth).unsqueeze(1)
        x, w = self.embeddings, self.class_weights
        return x if x is None else x * by_length, w if w is None else w * by_length
