"""In what form the memory holds snapshots, and how vectors are brought to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

# Of what each algorithm keeps numbers beside a snapshot: its anchors.
ANCHORS = {
    "row_softmax": "embeddings",
    "proxy_anchor": "class_weights",
    "concatenation": None,
}
ALGORITHMS = tuple(ANCHORS)
LEAST_LENGTH = 1e-12  # of torch.nn.functional.normalize


@dataclass(frozen=True)
class Form:
    """How snapshots lie in the memory.

    Attributes:
        algorithm: whose notes are kept beside them.
        num_classes, num_centers: C and K.
        embeddings, class_weights: p of the norm by which they have unit length; None:
            as they came.
    """

    algorithm: str
    num_classes: int
    num_centers: int
    embeddings: float | None = None
    class_weights: float | None = None

    def refusal(self, other: Form) -> str:
        """Why what is in this form cannot be brought to another one, or ""."""
        mine = self.num_classes, self.num_centers
        if mine != (other.num_classes, other.num_centers):
            return (
                "it holds {} classes of {} centres, the loss now has {} of {}".format(
                    *mine, other.num_classes, other.num_centers
                )
            )
        for name in ("embeddings", "class_weights"):
            if getattr(other, name) is None and getattr(self, name) is not None:
                return (
                    f"it holds {name.replace('_', ' ')} at unit length "
                    f"({self.algorithm}), and the loss now needs them as they were "
                    f"({other.algorithm})"
                )
        return ""


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
