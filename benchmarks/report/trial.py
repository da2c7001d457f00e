"""What one training measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import ReportError

Metrics = dict[str, float]


@dataclass(frozen=True)
class Epoch:
    """One evaluation.

    Attributes:
        splits: fractions, by split, then by metric.
        loss: mean training loss since the evaluation before.
        memvir: what MemVir says of its steps, by name; empty for plain losses.
    """

    epoch: int
    step: int
    splits: dict[str, Metrics]
    loss: float | None = None
    memvir: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One training: of a seed or, with cross-validation, of one of its folds."""

    path: Path
    seed: int
    fold: int | None
    num_epochs: int
    finished: bool
    stopped_early: bool
    primary_metric: str
    validation: str | None
    test: str
    epochs: tuple[Epoch, ...]

    def until(self, epoch: int) -> Trial:
        """As if the schedule had ended with this epoch; itself if it was shorter.

        Raises:
            ReportError: training had got there, and was not evaluated there.
        """
        if epoch >= self.num_epochs:
            return self
        kept = tuple(one for one in self.epochs if one.epoch <= epoch)
        if self.last_epoch > epoch and epoch not in [one.epoch for one in kept]:
            raise ReportError(
                f"{self.path} has no evaluation at epoch {epoch}; there are "
                f"{', '.join(str(one.epoch) for one in self.trained)}"
            )
        return replace(
            self,
            epochs=kept,
            num_epochs=epoch,
            finished=self.complete or self.last_epoch >= epoch,
            stopped_early=self.stopped_early and self.last_epoch < epoch,
        )

    @property
    def complete(self) -> bool:
        return self.finished or self.stopped_early

    @property
    def trained(self) -> tuple[Epoch, ...]:
        """All evaluations but that of epoch 0, before training."""
        return tuple(epoch for epoch in self.epochs if epoch.epoch > 0)

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def protocol(self) -> tuple[object, ...]:
        """What all trials of an experiment must share."""
        return self.num_epochs, self.primary_metric, self.validation, self.test
