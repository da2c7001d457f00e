"""Differences of MemVir to the plain losses, as if training had been shorter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from .columns import METRICS, PICKED, Cells, differences, numbers

QUARTERS = (1, 2, 3, 4)  # of the training
ABOUT_LENGTH = (
    "By steps: MemVir minus plain, as if training had ended there: test classes, at "
    "the epoch that until then is best on held-out classes."
)


def by_length(of: Sequence[Path], others: Sequence[Path] = ()) -> dict[str, Cells]:
    """Numbers of pairs, and the first metric's differences until each quarter.

    Args:
        of: folders of the experiments that were trained for so long.
        others: further ones, among them baselines, which may be longer.
    """
    trials = [trial for one in load(of) for trial in one.trials]
    num_epochs = max(trial.num_epochs for trial in trials)
    epoch = trials[0].trained[0]
    columns: dict[str, Cells] = {}
    ends = [max(1, quarter * num_epochs // len(QUARTERS)) for quarter in QUARTERS]
    for until in dict.fromkeys(ends):
        report = build(load([*of, *others], until), (PICKED,), METRICS[:1])
        steps = until * epoch.step // epoch.epoch
        columns[f"{steps:,} steps"] = differences(report, PICKED, METRICS[0])
    return {"pairs": numbers(report, METRICS[0]), **columns}
