"""Differences of MemVir to the plain losses, as if training had been shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    """Numbers of pairs, and the first metric's differences until about each quarter.

    In whole epochs, at least one, and always over the seeds that got to the end.

    Args:
        of: folders of the experiments that were trained for so long.
        others: further ones, among them baselines, which may be longer.
    """
    trials = [trial for one in load(of) for trial in one.trials if trial.complete]
    if not trials:
        return {}
    num_epochs = max(trial.num_epochs for trial in trials)
    epoch = trials[0].trained[0]
    folders = [*of, *others]
    seeds = {one.name: one.complete_seeds for one in load(folders, num_epochs)}
    columns: dict[str, Cells] = {}
    ends = [max(1, quarter * num_epochs // len(QUARTERS)) for quarter in QUARTERS]
    for until in dict.fromkeys(ends):
        experiments = [
            replace(one, seeds={n: one.seeds[n] for n in seeds[one.name]})
            for one in load(folders, until)
        ]
        report = build(experiments, (PICKED,), METRICS[:1])
        steps = until * epoch.step // epoch.epoch
        columns[f"{steps:,} steps"] = differences(report, PICKED, METRICS[0])
    return {"pairs": numbers(report, METRICS[0]), **columns}
