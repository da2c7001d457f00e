"""The tables of a report as text, whatever they are written as."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import pandas as pd

from . import cells
from .build import ARM, Report
from .cells import NONE, Strong
from .names import common_overlays, metric_label
from .pack import MEMVIR
from .published import published, sources
from .runs import TRIAL, Runs

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
SEEN = "What MemVir saw, until the last evaluation"
EPOCHS = "In parentheses: the epoch. Picked on the test set; optimistic."
Section = tuple[str, list[str | pd.DataFrame]]  # heading, sentences and tables
Arms = Sequence[tuple[str, str]]
Row = list[str]


def overlays(report: Report, arms: Arms) -> str:
    """What all names end with: said above the table, which it would make wide."""
    return common_overlays(report.runs.experiments.arm[name] for name, _ in arms)


def sections(report: Report) -> Iterator[Section]:
    """Headings, each with sentences and tables."""
    for dataset, selection, arms in report.sections():
        said = [EPOCHS] if selection == "best_on_test" else []
        if ending := overlays(report, arms):
            said.append(f"All arms: {ending}")
        makers = [summary, details] if len(arms) > 1 else [details]
        made = [make(report, dataset, selection, arms) for make in makers]
        heading = f"{dataset or '(unnamed data set)'}, selection: {selection}"
        yield heading, [*said, *made]
    if len(seen := insights(report.runs)):
        yield SEEN, [seen]


def summary(report: Report, dataset: str, selection: str, arms: Arms) -> pd.DataFrame:
    """A row an arm: the primary metric's difference to the baseline, and means."""
    ending, rows = overlays(report, arms), []
    difference = f"{metric_label(report.primary)} diff."
    primary = report.metrics.index(report.primary)
    for name, kind in arms:
        own, delta = zip(
            *(report.numbers(dataset, selection, name, kind, m) for m in report.metrics)
        )
        of_primary = delta[primary]
        label = report.runs.experiments.arm[name].removesuffix(ending)
        compared = name in report.baselines and of_primary.n
        row = {"mean": label if kind == "single" else f"{label}, {kind}"}
        row[difference] = cells.difference(of_primary) if compared else ""
        if compared and of_primary.n != own[primary].n:
            row[difference] += f", of {of_primary.n}"
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
    rows: list[Row] = []
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
    found = of_memvir(runs).groupby([*TRIAL, "metric"], as_index=False).last()
    groups = runs.of_complete(found).groupby(["experiment", "metric"])
    return groups.value.agg(statistics.fmean).to_dict()


def _arm(report: Report, arm: tuple[str, str, str, str], ending: str) -> list[Row]:
    dataset, selection, name, kind = arm
    metrics, table = report.metrics, report.runs.experiments
    rows = [_row(Strong(table.arm[name].removesuffix(ending)), ["" for _ in metrics])]
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
    of = report.seeds
    of = of[(of[ARM] == [dataset, selection, name, kind]).all(axis=1)]
    for seed, state in report.runs.seeds_of(name).iterrows():
        if state.complete:
            of_seed = of[of.seed == seed].set_index("metric")
            rows.append(_seed(seed, of_seed, metrics, selection == "best_on_test"))
        else:
            rows.append(_row(f"seed {seed}, unfinished", [NONE for _ in metrics]))
    return rows + _untrained(report, name, kind, selection)


def _seed(
    seed: int, of: pd.DataFrame, metrics: Sequence[str], epoch_in_cell: bool
) -> Row:
    """All metrics of a seed are of the same epochs, or each has its own."""
    numbers = [cells.percent(of.value[m]) if m in of.index else NONE for m in metrics]
    if not epoch_in_cell:
        epoch = cells.span(of.epochs.iloc[0]) if len(of) else NONE
        return _row(f"seed {seed}", numbers, epoch)
    texts = [
        f"{number} ({cells.span(of.epochs[m])})" if m in of.index else NONE
        for number, m in zip(numbers, metrics)
    ]
    return _row(f"seed {seed}", texts)


def _untrained(report: Report, name: str, kind: str, selection: str) -> list[Row]:
    """What the network can before training, where that was evaluated."""
    found = report.untrained[selection == "held_out"]
    found = found[found.experiment == name]
    if kind == "concatenated" or not found.metric.isin(report.metrics).any():
        return []
    of_seed = found.groupby(["metric", "seed"]).value.mean()
    known = [of_seed.loc[[m]] if m in of_seed else [] for m in report.metrics]
    texts = [cells.percent(statistics.fmean(of)) if len(of) else NONE for of in known]
    return [_row(f"untrained (n = {cells.span(map(len, known))})", texts, "0")]


def _published(name: str, metrics: Sequence[str]) -> list[Row]:
    rows = []
    for one in published(name):
        of = sources()[one.source]
        decimals = of["decimals"]
        values = [cells.with_sd(one.values.get(m), decimals) for m in metrics]
        rows.append(_row(f"published, {of['label']}", values))
        if one.differences:
            deltas = [cells.signed(one.differences.get(m), decimals) for m in metrics]
            rows.append(_row("its difference", deltas))
    return rows or [_row("published", [NONE for _ in metrics])]


def _row(label: str, values: Sequence[str], epoch: str = "") -> Row:
    return [label, epoch, *values]
