"""What an algorithm makes of one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..insight import Insight
from ..snapshots import Notes


@dataclass(frozen=True)
class Outcome:
    """A step's loss, and its snapshot in the form the algorithm wants to meet it.

    Attributes:
        value: what the loss's reducer returned.
        class_weights: (C K, D), detached.
        embeddings: (B, D), detached.
        notes: makes the numbers to keep beside the snapshot, if it is one to be kept.
        insight: numbers to watch, where they cost nothing.
    """

    value: Any
    class_weights: torch.Tensor
    embeddings: torch.Tensor
    notes: Callable[[], Notes] | None = None
    insight: Insight | None = None
