"""MemVir's numbers to watch, as they can be read and recorded."""

from __future__ import annotations

import math
from typing import Any

import torch

from .insight import Insight
from .settings import Settings

RECORDED = (
    "share_of_actual_classes",
    "share_of_own_copies",
    "share_of_other_copies",
    "actual_loss",
    "virtual_loss",
    "log_num_copies",
    "cosine_to_newest",
    "cosine_to_oldest",
)


class Watched(Settings):
    """The part of MemVir that says what its last training step saw.

    All are numbers; NaN where there is nothing to tell: before there are virtual
    classes, the shares for Proxy-Anchor, which has no softmax for a row, and all but
    the cosines for losses that go by concatenation. They are computed when
    they are read, and record-keeper reads them when it logs. In docs/tuning.md is how
    to understand them.
    """

    loss: torch.nn.Module
    num_virtual_steps: Any
    _insight: Insight | None = None  # also of wrappers pickled before there was one
    _layout: Any

    @property
    def share_of_actual_classes(self) -> float:
        """Mean probability of actual rows on the C actual classes."""
        return self._share(0)

    @property
    def share_of_own_copies(self) -> float:
        """Mean probability of actual rows on old copies of their own class."""
        return self._share(1)

    @property
    def share_of_other_copies(self) -> float:
        """Mean probability of actual rows on old copies of other classes."""
        return self._share(2)

    @property
    def actual_loss(self) -> float:
        """Mean loss of actual rows, before reducer and miner weights.

        Proxy-Anchor: the mean of its two terms over actual proxies.
        """
        return _mean(self._insight.actual_losses) if self._insight else math.nan

    @property
    def virtual_loss(self) -> float:
        """Mean loss of virtual rows; Proxy-Anchor: over virtual proxies."""
        return _mean(self._insight.virtual_losses) if self._insight else math.nan

    @property
    def log_num_copies(self) -> float:
        """ln(n + 1), n being the snapshots met.

        The least loss of a row whose class cannot be told from its n old copies.
        """
        return math.log(self.num_virtual_steps + 1) if self._insight else math.nan

    @property
    def cosine_to_newest(self) -> float:
        """Mean cosine of the class weights and those of the newest snapshot met next.

        1 less this is their drift in one step gap.
        """
        return next(iter(self._cosines(slice(0, 1))), math.nan)

    @property
    def cosine_to_oldest(self) -> float:
        """The same of the oldest snapshot met next."""
        return next(iter(self._cosines(slice(-1, None))), math.nan)

    def cosines_to_snapshots(self) -> list[float]:
        """Mean cosine of today's class weights and each snapshot's, newest first.

        The snapshots are those that the next training step will meet.
        """
        return self._cosines(slice(None))

    @torch.no_grad()
    def _cosines(self, which: slice) -> list[float]:
        """Of some snapshots, in their order from the newest."""
        slot = self._schedule.slot(self._calls)
        columns = self._memory.columns_met(slot)
        columns.sort(key=lambda c: -self._schedule.last_slot(c, before=slot))
        if not columns:
            return []
        row, now = self._memory.row(slot), self._layout.rows(self.loss)
        cosines = [
            torch.cosine_similarity(
                now, row.class_weights[column].to(now.device, now.dtype), dim=1
            ).mean()
            for column in columns[which]
        ]
        return [float(cosine) for cosine in torch.stack(cosines)]

    def _share(self, index: int) -> float:
        if self._insight is None or self._insight.shares is None:
            return math.nan
        return self._insight.shares.means()[index]


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan
