"""What history.json and concatenated.json hold."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ..errors import ReportError, explained
from .pack import RESERVED

# Metrics are ratios of sums in floating point, which may exceed 1 by rounding.
TOLERANCE = 1e-6


def _fractions(metrics: dict[str, float]) -> dict[str, float]:
    for name, value in metrics.items():
        lowest = -1 if name == "AMI" else 0
        # NaN is what a training that diverged may have come to.
        if not (math.isnan(value) or lowest - TOLERANCE <= value <= 1 + TOLERANCE):
            raise ValueError(
                f"expected {name!r} to be a fraction, {lowest} to 1, got {value!r}"
            )
    return metrics


def _split(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"expected another name of a split, got {name!r}")
    return name


Whole = Annotated[int, Field(ge=0, lt=2**53)]
Metrics = Annotated[dict[str, float], AfterValidator(_fractions)]
Splits = dict[Annotated[str, AfterValidator(_split)], Metrics]


class File(BaseModel):
    """Other keys than these are left out, but for the format."""

    model_config = ConfigDict(strict=True)
    format: Literal[1]


class Concatenated(File):
    """Accuracies of the folds' concatenated embeddings, by selection."""

    last: Metrics | None = None
    best_on_validation: Metrics | None = None


class Entry(BaseModel):
    """An evaluation."""

    model_config = ConfigDict(strict=True)
    epoch: Whole
    step: Whole
    loss: float | None = None
    splits: Splits
    memvir: dict[str, float] = {}


class History(File):
    """What a trial has measured so far."""

    seed: int
    fold: int | None = None
    num_epochs: Whole
    finished: bool
    stopped_early: bool
    primary_metric: str
    validation: str | None
    test: str
    epochs: list[Entry]

    @property
    def last_epoch(self) -> int:
        return self.epochs[-1].epoch if self.epochs else 0

    @model_validator(mode="after")
    def _in_order(self) -> History:
        for one, next_one in pairwise(self.epochs):
            if one.epoch >= next_one.epoch or one.step > next_one.step:
                raise ValueError(
                    f"expected epochs and steps to grow after epoch {one.epoch}"
                )
        last, num_epochs = self.last_epoch, self.num_epochs
        at_end = self.finished and not self.stopped_early
        first = 1 if self.stopped_early else num_epochs if at_end else 0
        if not first <= last <= num_epochs:
            raise ValueError(
                f"expected a last epoch of {first} to {num_epochs}, got {last}"
            )
        return self


Kind = TypeVar("Kind", bound=File)


def check(kind: type[Kind], data: Any, place: str, **expected: Any) -> Kind:
    """The content of a file.

    Args:
        expected: what its folder says of it.

    Raises:
        ReportError: the file is damaged, of another format, or of another trial.
    """
    try:
        found = kind.model_validate(data)
        for name, value in expected.items():
            if (got := getattr(found, name)) != value:
                raise ReportError(f"expected {name} {value} by its folder, got {got}")
    except ValueError as error:
        said = explained(error) if isinstance(error, ValidationError) else str(error)
        raise ReportError(
            f"{place}, {said}; the file is damaged, or another program wrote it"
        ) from error
    return found
