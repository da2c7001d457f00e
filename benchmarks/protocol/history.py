"""What one trial measured, epoch by epoch, in a file that is whole at any moment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..config import ConfigError
from ..files import write_text

FORMAT = 1
FILE_NAME = "history.json"


@dataclass
class History:
    """The accuracies of a trial's evaluations; fractions, not percent.

    Each of `epochs` has "epoch", "step" (training steps until then), "loss" (the mean
    training loss since the evaluation before, None where none was computed), "splits":
    accuracies by split and metric, and "memvir": what MemVir says of its steps, means
    since the evaluation before.
    """

    seed: int
    fold: int | None
    num_epochs: int
    primary_metric: str
    validation: str | None
    test: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    stopped_early: bool = False
    format: int = FORMAT

    @property
    def selection_split(self) -> str:
        """Where the best epoch is picked: validation or, without it, the test set."""
        return self.validation or self.test

    def best_epoch(self, metric: str, split: str | None = None) -> int | None:
        """The first epoch after training began with the highest accuracy.

        One that is not a number, or None, is none.
        """
        split = split or self.selection_split
        scored = [
            (-entry["splits"][split][metric], entry["epoch"])
            for entry in self.epochs
            if entry["epoch"] > 0 and is_number(entry["splits"].get(split, {}), metric)
        ]
        return min(scored)[1] if scored else None

    def truncate(self, epoch: int) -> None:
        """Forget what came after this epoch: it will be trained again."""
        self.epochs = [entry for entry in self.epochs if entry["epoch"] <= epoch]
        self.finished = self.stopped_early = False

    def save(self, folder: Path) -> None:
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> History | None:
        """The history in a folder; None if there is none.

        Raises:
            ConfigError: the file is damaged, or of another format.
        """
        path = folder / FILE_NAME
        if not path.exists():
            return None
        try:
            history = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged: {error}") from error
        if history.format != FORMAT:
            raise ConfigError(f"{path}: expected format {FORMAT}, got {history.format}")
        return history


def is_number(values: dict[str, Any], metric: str) -> bool:
    """Whether there is a value, and not NaN."""
    value = values.get(metric)
    return value is not None and value == value
