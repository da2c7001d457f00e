"""The tables of a report as text, whatever they are written as."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from . import cells
from .build import Report
from .cells import NONE, Strong
from .names import common_overlays, metric_label
from .pack import MEMVIR
from .published import published, sources
from .runs import SEED, TRIAL, Runs
from .selection import accuracies

# Short, for a table of 100 columns; docs/tuning.md has the names in full.
INSIGHTS = {
    "share_of_actual_classes": "actual",
    "share_of_own_copies": "own",
    "share_of_other_copies": "other",
    "actual_loss": "loss",
    "virtual_loss": "virtual",
    "log_num_copies": "ln(n+1)",
    "cosine_to_newest": "newest",
    "cosine_to_oldest": "oldest",
}
Arms = Sequence[tuple[str, str]]


def overlays(report: Report, arms: Arms) -> str:
    """What all names end with: said above the table, which it would make wide."""
    return common_overlays(report.runs.experiments.arm[name] for name, _ in arms)


def summary(report: Report, dataset: str, selection: str, arms: Arms) -> pd.DataFrame:
    """A row an arm: the primary metric's difference to the baseline, and means."""
    ending, rows = overlays(report, arms), []
    difference = f"{metric_label(report.primary)} diff."
    for name, kind in arms:
        own, delta = zip(
            *(report.numbers(dataset, selection, name, kind, m) for m in report.metrics)
        )
        of_primary = delta[report.metrics.index(report.primary)]
        label = report.runs.experiments.arm[name].removesuffix(ending)
        compared = name in report.baselines and of_primary.n
        row = {"mean": label if kind == "single" else f"{label}, {kind}"}
        row[difference] = cells.difference(of_primary) if compared else ""
        row["n"] = cells.span(s.n for s in own)
        row |= {
            metric_label(m): cells.percent(s.mean) for m, s in zip(report.metrics, own)
        }
        rows.append(row)
    return pd.DataFrame(rows)


def details(report: Report, dataset: str, selection: str, arms: Arms) -> pd.DataFrame:
    """For each arm its difference to the baseline, its mean and its seeds."""
    ending = overlays(report, arms)
    with_published = any(published(name) for name, _ in arms)
    with_published &= selection != "held_out"  # published ones are of the test set
    rows: list[list[str]] = []
    for name, kind in arms:
        rows += _arm(report, (dataset, selection, name, kind), ending)
        if with_published:
            rows += _published(name, report.metrics)
    labels = [metric_label(metric) for metric in report.metrics]
    return pd.DataFrame(rows, columns=["", "epoch", *labels])


def insights(runs: Runs) -> pd.DataFrame:
    """What MemVir saw at the end of training: means over finished seeds."""
    last = last_insights(runs)
    rows = []
    for name in dict.fromkeys(of_memvir(runs).experiment):
        row = {"": name}
        for metric, label in INSIGHTS.items():
            decimals = 3 if metric.startswith("cosine") else 2  # they are all near 1
            number = last.get((name, metric))
            row[label] = NONE if number is None else f"{number:.{decimals}f}"
        rows.append(row)
    return pd.DataFrame(rows)


def of_memvir(runs: Runs) -> pd.DataFrame:
    """Of the values those that MemVir tells, in training, in the experiments' order."""
    found = runs.values[(runs.values.split == MEMVIR) & (runs.values.epoch > 0)]
    places = {name: place for place, name in enumerate(runs.experiments.index)}
    return found.sort_values("experiment", key=lambda of: of.map(places), kind="stable")


def last_insights(runs: Runs) -> dict[tuple[str, str], float]:
    """By experiment and name: means over trials of finished seeds, each at its end."""
    complete = runs.seeds.complete
    found = of_memvir(runs).groupby([*TRIAL, "metric"], as_index=False).last()
    of_seed = pd.MultiIndex.from_frame(found[SEED])
    groups = found[of_seed.isin(complete.index[complete])]
    return {
        (name, metric): statistics.fmean(of.value)
        for (name, metric), of in groups.groupby(["experiment", "metric"])
    }


def _arm(
    report: Report, arm: tuple[str, str, str, str], ending: str
) -> list[list[str]]:
    dataset, selection, name, kind = arm
    metrics, table = report.metrics, report.runs.experiments
    label = table.arm[name].removesuffix(ending)
    rows = [_row(Strong(label), ["" for _ in metrics])]
    if kind != "single":
        rows.append(_row(kind, ["" for _ in metrics]))
    own, deltas = zip(*(report.numbers(*arm, m) for m in metrics))
    if name in report.baselines:
        baseline = table.arm[report.baselines[name]].removesuffix(ending)
        n = cells.span(d.n for d in deltas)
        rows += [
            _row(f"minus {baseline} (n = {n})", [cells.signed(d.mean) for d in deltas]),
            _row("its 95% interval", [cells.interval(d, True) for d in deltas]),
            _row("its sd", [cells.percent(d.sd) for d in deltas]),
        ]
    mean = f"mean (n = {cells.span(s.n for s in own)})"
    rows += [
        _row(mean, [cells.percent(s.mean) for s in own]),
        _row("95% interval", [cells.interval(s) for s in own]),
        _row("sd", [cells.percent(s.sd) for s in own]),
    ]
    of_arm = report.seeds.set_index(["dataset", "selection", "experiment", "accuracy"])
    values = of_arm.loc[[arm]] if arm in of_arm.index else of_arm.iloc[:0]
    seeds = report.runs.seeds
    for seed, state in seeds[seeds.index.get_level_values(0) == name].iterrows():
        of_seed = values[values.seed == seed[1]].set_index("metric")
        if state.complete:
            rows.append(_seed(seed[1], of_seed, metrics, selection == "best_on_test"))
        else:
            text = f"seed {seed[1]}, unfinished"
            rows.append(_row(text, [NONE for _ in metrics]))
    return rows + _untrained(report, name, kind, selection)


def _seed(
    seed: int, values: pd.DataFrame, metrics: Sequence[str], epoch_in_cell: bool
) -> list[str]:
    numbers = [
        cells.percent(values.value[m]) if m in values.index else NONE for m in metrics
    ]
    if epoch_in_cell:
        texts = [
            f"{number} ({cells.span(values.epochs[m])})" if m in values.index else NONE
            for number, m in zip(numbers, metrics)
        ]
        return _row(f"seed {seed}", texts)
    # All metrics of a seed are of the same epochs.
    epoch = cells.span(values.epochs.iloc[0]) if len(values) else NONE
    return _row(f"seed {seed}", numbers, epoch)


def _untrained(report: Report, name: str, kind: str, selection: str) -> list[list[str]]:
    """What the network can before training, where that was evaluated."""
    runs = report.runs.only([name])
    found = accuracies(runs, held_out=selection == "held_out")
    found = found[(found.epoch == 0) & found.seed.isin(runs.complete_seeds(name))]
    if kind == "concatenated" or not found.metric.isin(report.metrics).any():
        return []
    of_seed = found.groupby(["metric", "seed"]).value.mean()
    values: dict[Any, list[float]] = {
        metric: list(of) for metric, of in of_seed.groupby(level=0)
    }
    known = [values.get(metric, []) for metric in report.metrics]
    texts = [cells.percent(statistics.fmean(of)) if of else NONE for of in known]
    return [_row(f"untrained (n = {cells.span(map(len, known))})", texts, "0")]


def _published(name: str, metrics: Sequence[str]) -> list[list[str]]:
    rows = []
    for one in published(name):
        of = sources()[one.source]
        values = [
            cells.with_sd(*one.values[m], of["decimals"]) if m in one.values else NONE
            for m in metrics
        ]
        rows.append(_row(f"published, {of['label']}", values))
        if one.differences:
            deltas = [
                cells.signed(one.differences.get(m), of["decimals"]) for m in metrics
            ]
            rows.append(_row("its difference", deltas))
    return rows or [_row("published", [NONE for _ in metrics])]


def _row(label: str, values: Sequence[str], epoch: str = "") -> list[str]:
    return [label, epoch, *values]
