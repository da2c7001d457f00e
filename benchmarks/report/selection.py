"""Which epoch's model counts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .contents import PROTOCOL
from .runs import TRIAL, Runs

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


def accuracies(runs: Runs, held_out: bool = False) -> pd.DataFrame:
    """Values on the test split, or on held-out classes."""
    with_trial = runs.values.merge(runs.trials[[*TRIAL, *PROTOCOL]], on=TRIAL)
    split = with_trial.validation if held_out else with_trial.test
    return with_trial[with_trial.split == split]


def select(runs: Runs, selection: str, metrics: Sequence[str]) -> pd.DataFrame:
    """TRIAL, metric, epoch and value of each trial, at the epoch that is selected.

    Of epochs that are equally good the earliest counts. Epoch 0 never does. What was
    not measured has no row.

    Args:
        selection: one of SELECTIONS.
    """
    found = accuracies(runs, held_out=selection == "held_out")
    found = found[found.epoch > 0]
    columns = [*TRIAL, "metric", "epoch", "value"]
    wanted = found[found.metric.isin(metrics)]
    if selection == "best_on_test":
        return _best(wanted, [*TRIAL, "metric"])[columns]
    if selection == "last":
        trained = runs.values[runs.values.epoch > 0]
        epochs = trained.groupby(TRIAL, as_index=False, sort=False).epoch.max()
    else:
        scored = accuracies(runs, held_out=True)
        primary = scored[(scored.metric == scored.primary_metric) & (scored.epoch > 0)]
        epochs = _best(primary, TRIAL)
    return wanted.merge(epochs[[*TRIAL, "epoch"]], on=[*TRIAL, "epoch"])[columns]


def _best(scored: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The row with the first of the best values, for each trial or metric of it."""
    known = scored.assign(score=scored.value.fillna(float("-inf")))
    return known.loc[known.groupby(by, sort=False).score.idxmax()]
