"""Vectors of unit length."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

LEAST_LENGTH = 1e-12  # of torch.nn.functional.normalize


def unit(vectors: torch.Tensor, p: float | None) -> torch.Tensor:
    """Vectors (..., D) at unit length by the p-norm; with None as they are."""
    if p is None:
        return vectors
    made = _Unit.apply(vectors) if p == 2 else normalize(vectors, p=p, dim=-1)
    return cast(torch.Tensor, made)


class _Unit(torch.autograd.Function):
    """As `normalize`, by a fifth of its operations in backward."""

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor) -> torch.Tensor:
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        lengths.clamp_min_(LEAST_LENGTH)
        made: torch.Tensor = vectors / lengths
        ctx.save_for_backward(made, lengths)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        made, lengths = ctx.saved_tensors
        along = (grad * made).sum(dim=-1, keepdim=True)
        of_vectors: torch.Tensor = grad.addcmul(made, along, value=-1).div_(lengths)
        return of_vectors
