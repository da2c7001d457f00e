"""Ways to compute the loss over actual and virtual classes, one a file."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ..class_weights import ClassWeightLayout
from ..form import Form
from ..memory import SnapshotMemory
from .concatenation import Concatenation
from .outcome import Outcome
from .proxy_anchor_step import ProxyAnchor
from .row_softmax_step import RowSoftmax

__all__ = ["Algorithm", "KINDS", "NAMES", "Outcome", "choose"]

NAMES = ("auto", "concatenation")
KINDS = (RowSoftmax.name, ProxyAnchor.name, Concatenation.name)


class Algorithm(Protocol):
    """Computes a step's loss with the memory's row, and what is to be remembered."""

    name: str

    @property
    def memory_form(self) -> Form:
        """In what form it wants to meet snapshots."""
        ...

    def __call__(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Any,
        memory: SnapshotMemory,
        slot: int,
    ) -> Outcome: ...


def choose(
    wanted: str,
    loss: torch.nn.Module,
    layout: ClassWeightLayout,
    chunk_steps: int | None,
) -> Algorithm:
    """The fastest algorithm for the loss as it is set up now, or the one wanted."""
    if wanted == "auto":
        for fast in (RowSoftmax, ProxyAnchor):
            algorithm = fast.for_loss(loss, layout, chunk_steps)
            if algorithm is not None:
                return algorithm
    return Concatenation(loss, layout)
