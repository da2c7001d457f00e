"""One arm's numbers, and those of the arms that it is held against."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from .errors import ReportError
from .experiments import Experiment
from .published import published
from .seeds import Seed
from .selection import choose
from .statistics import Summary, paired_difference, summarize
from .structure import Result, Value

# (arm, baseline) in the order of display.
Pairs = list[tuple[Experiment, Experiment]]


def pair_up(experiments: Sequence[Experiment], baselines: Mapping[str, str]) -> Pairs:
    """Each arm that has a baseline among the experiments, with it.

    Args:
        baselines: by experiment name, in place of those in config.yaml.

    Raises:
        ReportError: `baselines` names what is not there; or a baseline is the arm
            itself, or of another data set, or has folds where the arm has none.
    """
    by_name = {experiment.name: experiment for experiment in experiments}
    for name in [*baselines, *baselines.values()]:
        if name not in by_name:
            raise ReportError(
                f"baseline: there is no experiment {name!r}; there are "
                f"{', '.join(by_name)}"
            )
    pairs = []
    for arm in experiments:
        wanted = {arm.name: arm.baseline, **baselines}[arm.name]
        other = None if wanted is None else by_name.get(wanted)
        if other is None:
            continue
        if other is arm or other.dataset != arm.dataset:
            raise ReportError(
                f"the baseline of {arm.name} must be another arm on the same data set, "
                f"got {other.name}; change it in {arm.folder}/config.yaml or by option"
            )
        if arm.trials and other.trials and arm.num_folds != other.num_folds:
            raise ReportError(
                f"{arm.name} has {arm.num_folds} folds, its baseline {other.name} "
                f"{other.num_folds} (0: no cross-validation): they cannot be compared"
            )
        pairs.append((arm, other))
    return pairs


def result(
    arm: Experiment,
    pairs: Pairs,
    accuracy: str,
    selection: str,
    metrics: Sequence[str],
) -> Result:
    """All numbers of an arm by one selection."""
    baseline = next((other for one, other in pairs if one is arm), None)
    seeds = {
        number: {m: _value(seed, accuracy, selection, m) for m in metrics}
        for number, seed in arm.complete_seeds.items()
    }
    better = set()
    for metric in metrics:
        for one, other in pairs:
            if arm not in (one, other):
                continue
            difference = _difference(one, other, accuracy, selection, metric)
            if difference is not None and difference.excludes_zero:
                if (difference.mean > 0) == (arm is one):
                    better.add(metric)
    return Result(
        experiment=arm.name,
        label=arm.arm,
        loss=arm.loss,
        memvir=arm.memvir,
        accuracy=accuracy,
        seeds=seeds,
        unfinished={
            number: ", ".join(seed.unfinished)
            for number, seed in arm.seeds.items()
            if not seed.complete
        },
        summaries={
            m: summarize(list(_values(arm, accuracy, selection, m).values()))
            for m in metrics
        },
        baseline=None if baseline is None else baseline.arm,
        differences={
            m: (
                None
                if baseline is None
                else _difference(arm, baseline, accuracy, selection, m)
            )
            for m in metrics
        },
        better=frozenset(better),
        # Those are of the test set.
        published=() if selection == "held_out" else published(arm.name),
    )


def _difference(
    arm: Experiment, baseline: Experiment, accuracy: str, selection: str, metric: str
) -> Summary | None:
    return paired_difference(
        _values(arm, accuracy, selection, metric),
        _values(baseline, accuracy, selection, metric),
    )


def _values(
    arm: Experiment, accuracy: str, selection: str, metric: str
) -> dict[int, float]:
    """By seed; seeds that are unfinished or without the metric are left out."""
    values = {
        number: _value(seed, accuracy, selection, metric)
        for number, seed in arm.complete_seeds.items()
    }
    return {number: v.value for number, v in values.items() if v is not None}


def _value(seed: Seed, accuracy: str, selection: str, metric: str) -> Value | None:
    """A seed's one number: with folds their mean, or that of all together."""
    chosen = [choose(trial, selection, metric) for trial in seed.trials]
    known = [c for c in chosen if c is not None]
    if accuracy == "concatenated":
        together = seed.concatenated.get(selection, {}).get(metric)
        if together is None:
            return None
        return Value(together, tuple(c.epoch for c in known))
    if len(known) < len(chosen):
        return None
    mean = statistics.fmean(c.value for c in known)
    return Value(mean, tuple(c.epoch for c in known))
