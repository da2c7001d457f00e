"""MemVir's numbers to watch, computed when they are read."""

from __future__ import annotations

import math

import torch

from .steps import Steps


class Watch:
    """What the last training step saw, and what the next one will meet."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._progress = steps.progress

    def share(self, index: int) -> float:
        """Mean probability of actual embeddings on actual classes (0), on old copies of
        their own class (1), or of other classes (2)."""
        insight = self._progress.insight
        if insight is None or insight.shares is None:
            return math.nan
        return insight.shares.means()[index]

    @property
    def actual_loss(self) -> float:
        insight = self._progress.insight
        return _mean(insight.actual_losses) if insight else math.nan

    @property
    def virtual_loss(self) -> float:
        insight = self._progress.insight
        return _mean(insight.virtual_losses) if insight else math.nan

    @property
    def log_num_copies(self) -> float:
        copies = self._progress.num_virtual_steps
        return math.log(copies + 1) if self._progress.insight else math.nan

    @torch.no_grad()
    def cosines(self, class_weights: torch.Tensor, which: slice) -> list[float]:
        """Mean cosine of class weights (C K, D) and those that the next step meets.

        Args:
            which: of the snapshots in their order from the newest.
        """
        memory, slot = self._steps.memory, self._steps.slot
        last = memory.schedule.last_slot
        met = [cell for cell, size in enumerate(memory.batch_sizes(slot)) if size]
        newest = sorted(met, key=lambda cell: -last(cell, before=slot))[which]
        if not newest:
            return []
        old = memory.past(slot).class_weights
        found = [
            torch.cosine_similarity(
                class_weights, old[cell].to(class_weights), dim=1
            ).mean()
            for cell in newest
        ]
        return [float(cosine) for cosine in torch.stack(found)]


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan
