"""Which epoch's model counts."""

from __future__ import annotations

from dataclasses import dataclass

from .trial import Epoch, Trial

SELECTIONS = {
    "last": "the last epoch of the schedule (or of a training that stopped early)",
    "best_on_validation": (
        "the epoch with the best primary metric on held-out classes of the training set"
    ),
    "best_on_test": (
        "each metric's own best over epochs, picked on the test set: what the official "
        "code reports; optimistic"
    ),
    "held_out": (
        "accuracies of the held-out classes themselves, at the epoch that is best "
        "there by the primary metric: what settings are picked by"
    ),
}
LABELS = {  # in figures
    "last": "last epoch",
    "best_on_validation": "best epoch on held-out classes",
    "best_on_test": "best on test, optimistic",
    "held_out": "accuracies of held-out classes",
}
NEED_VALIDATION = ("best_on_validation", "held_out")
# What is reported unless something else is asked for: accuracies of the test set.
USUAL = ("last", "best_on_validation", "best_on_test")


@dataclass(frozen=True)
class Chosen:
    """A metric, as a fraction, and the epoch that it is of."""

    value: float
    epoch: int


def choose(trial: Trial, selection: str, metric: str) -> Chosen | None:
    """The metric at the epoch that is selected; None where it was not measured.

    Of epochs that are equally good the earliest counts. Epoch 0 never does.

    Args:
        selection: one of SELECTIONS.
    """
    if selection == "last":
        epoch = trial.trained[-1] if trial.trained else None
    elif selection in NEED_VALIDATION:
        epoch = _best(trial, trial.validation, trial.primary_metric)
    else:
        epoch = _best(trial, trial.test, metric)
    if epoch is None:
        return None
    split = trial.validation if selection == "held_out" else trial.test
    value = epoch.splits.get(split or "", {}).get(metric)
    return None if value is None else Chosen(value, epoch.epoch)


def _best(trial: Trial, split: str | None, metric: str) -> Epoch | None:
    measured = [
        epoch
        for epoch in trial.trained
        if split is not None and metric in epoch.splits.get(split, {})
    ]
    # max() returns the first of equals, and epochs are in order.
    return max(measured, key=lambda e: e.splits[split or ""][metric], default=None)
