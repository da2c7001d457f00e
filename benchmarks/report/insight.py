"""What MemVir saw in training, averaged over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .experiments import Experiment
from .structure import Insight, Line


def insights(experiments: Sequence[Experiment]) -> tuple[Insight, ...]:
    """Of each arm that has anything to show: means over its seeds and folds."""
    found = []
    for arm in experiments:
        names = {n for t in arm.trials for e in t.trained for n in e.memvir}
        if names:
            lines = {name: _mean_line(arm, name) for name in sorted(names)}
            found.append(Insight(arm.name, lines, _last(arm)))
    return tuple(found)


def _last(arm: Experiment) -> dict[str, float]:
    """Means over the trials of finished seeds, each at its own end."""
    values: dict[str, list[float]] = {}
    for seed in arm.complete_seeds.values():
        for trial in seed.trials:
            last = {n: v for e in trial.trained for n, v in e.memvir.items()}
            for name, value in last.items():
                values.setdefault(name, []).append(value)
    return {name: statistics.fmean(of) for name, of in values.items()}


def _mean_line(arm: Experiment, name: str) -> Line:
    """Over all trials that have reached a step."""
    by_step: dict[int, list[float]] = {}
    for trial in arm.trials:
        for epoch in trial.trained:
            if name in epoch.memvir:
                by_step.setdefault(epoch.step, []).append(epoch.memvir[name])
    steps = sorted(by_step)
    return Line(tuple(steps), tuple(statistics.fmean(by_step[s]) for s in steps))
