"""Learning curves, of the test split or held-out classes, over epochs or steps."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from .arms import Pairs
from .experiments import Experiment
from .names import LOSSES, order
from .protocol import about, versions
from .seeds import Seed
from .structure import Curve, Line, Panels

# Where the longest schedule is so many times the shortest, that would be a sliver.
LOGARITHMIC_FROM = 4


def panels(
    experiments: Sequence[Experiment],
    pairs: Pairs,
    metrics: Sequence[str],
    held_out: bool = False,
) -> tuple[Panels, ...]:
    """Curves of all arms, by data set; an arm looks the same on all of them.

    Args:
        held_out: of the held-out classes, in place of the test split.
    """
    with_baseline = {arm.name for arm, _ in pairs}
    plain = {e.name: not e.memvir and e.name not in with_baseline for e in experiments}
    colors = _colors(experiments, plain)
    return tuple(
        _panels(
            [e for e in experiments if e.dataset == dataset],
            plain,
            colors,
            metrics,
            held_out,
        )
        for dataset in dict.fromkeys(e.dataset for e in experiments)
    )


def _panels(
    arms: Sequence[Experiment],
    plain: Mapping[str, bool],
    colors: Mapping[str, int],
    metrics: Sequence[str],
    held_out: bool,
) -> Panels:
    """Over epochs if all schedules are equally long, else over steps."""
    lengths = {arm.num_epochs for arm in arms if arm.num_epochs is not None}
    by_steps = len(lengths) > 1
    return Panels(
        arms[0].dataset,
        f"Of held-out classes. {about(arms)}" if held_out else about(arms),
        versions(arms),
        "optimiser steps" if by_steps else "epochs",
        by_steps and max(lengths) >= LOGARITHMIC_FROM * max(1, min(lengths)),
        {
            metric: tuple(
                _curve(
                    arm, metric, by_steps, colors[arm.arm], plain[arm.name], held_out
                )
                for arm in arms
            )
            for metric in metrics
        },
    )


def _colors(
    experiments: Sequence[Experiment], plain: Mapping[str, bool]
) -> dict[str, int]:
    """By arm: a color a loss; one an arm where the line's style tells too little."""
    losses = {e.arm: e.loss for e in experiments}
    looks = {(e.loss, plain[e.name]) for e in experiments}
    if len(looks) < len(losses):
        return {arm: number for number, arm in enumerate(sorted(losses, key=order))}
    others = sorted(set(losses.values()) - set(LOSSES))
    numbers = {loss: number for number, loss in enumerate([*LOSSES, *others])}
    return {arm: numbers[loss] for arm, loss in losses.items()}


def _curve(
    arm: Experiment,
    metric: str,
    by_steps: bool,
    color: int,
    plain: bool,
    held_out: bool,
) -> Curve:
    lines = {
        n: _of_seed(seed, metric, by_steps, held_out) for n, seed in arm.seeds.items()
    }
    finished = [lines[n] for n in arm.complete_seeds if lines[n].x]
    return Curve(
        label=arm.arm,
        color=color,
        plain=plain,
        mean=_over(finished, statistics.fmean),
        low=_over(finished, min),
        high=_over(finished, max),
        seeds=tuple(line for line in lines.values() if line.x),
    )


def _of_seed(seed: Seed, metric: str, by_steps: bool, held_out: bool) -> Line:
    """The mean over folds, if there are any."""
    lines = []
    for trial in seed.trials:
        split = (trial.validation or "") if held_out else trial.test
        points = {
            (epoch.step if by_steps else epoch.epoch): epoch.splits[split][metric]
            for epoch in trial.trained
            if metric in epoch.splits.get(split, {})
        }
        lines.append(Line(tuple(points), tuple(points.values())))
    return _over(lines, statistics.fmean) or Line((), ())


def _over(lines: Sequence[Line], reduce: Callable[[list[float]], float]) -> Line | None:
    """A function of all lines, where all of them have a point."""
    if not lines:
        return None
    points = [dict(zip(line.x, line.y)) for line in lines]
    common = sorted(set.intersection(*(set(p) for p in points)))
    return Line(tuple(common), tuple(reduce([p[x] for p in points]) for x in common))
