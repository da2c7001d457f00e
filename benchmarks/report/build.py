"""From runs to the numbers of a report."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from ..errors import ReportError
from .names import METRICS, chosen_from, metric_name, order
from .runs import NO_FOLD, Runs
from .selection import NEED_VALIDATION, SELECTIONS, USUAL, accuracies, select
from .statistics import Summary, paired_difference, summarize

ARM = ["dataset", "selection", "experiment", "accuracy"]
CELL = [*ARM, "metric"]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that is written. All metrics are fractions.

    Attributes:
        runs: experiments in the order of display.
        metrics: names in history.json.
        primary: of these, what the summary compares.
        selections: of SELECTIONS.
        baselines: by experiment.
        records: a row a selected value: experiment, seed, fold ("" without folds,
            "concatenated" of all together), selection, epoch, metric, value.
        seeds: a row a seed and number: CELL, seed, value, epochs (a list).
        summary: by CELL, a `Summary` of its seeds, and one of its `difference`.
    """

    runs: Runs
    metrics: tuple[str, ...]
    primary: str
    selections: tuple[str, ...]
    baselines: Mapping[str, str]
    records: pd.DataFrame
    seeds: pd.DataFrame
    summary: pd.DataFrame

    def sections(self) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
        """Data set, selection, and its arms: experiments with a kind of accuracy."""
        arms: dict[tuple[str, str], dict[tuple[str, str], None]] = {}
        for dataset, selection, *arm, _ in self.summary.index:
            arms.setdefault((dataset, selection), {})[arm[0], arm[1]] = None
        for (dataset, selection), of in arms.items():
            yield dataset, selection, list(of)

    def numbers(self, *cell: str) -> tuple[Summary, Summary]:
        """A cell's mean over seeds, and its difference to the baseline."""
        return self._cells[cell]

    def difference(self, *cell: str) -> Summary:
        """To the baseline; empty where there is nothing to compare."""
        return self._cells[cell][1] if cell in self._cells else Summary()

    @cached_property
    def _cells(self) -> dict[tuple[str, ...], tuple[Summary, Summary]]:
        return dict(zip(self.summary.index, self.summary.itertuples(index=False)))

    @cached_property
    def untrained(self) -> dict[bool, pd.DataFrame]:
        """Accuracies before training, by whether they are of held-out classes."""
        found = {
            held_out: accuracies(self.runs, held_out) for held_out in (False, True)
        }
        return {k: self.runs.of_complete(of[of.epoch == 0]) for k, of in found.items()}

    def better(self, *cell: str) -> bool:
        """Whether it is the better of a pair, and the interval leaves out 0."""
        dataset, selection, experiment, accuracy, metric = cell
        for arm, baseline in self.baselines.items():
            if experiment in (arm, baseline):
                place = dataset, selection, arm, accuracy, metric
                difference = self.difference(*place)
                ahead = (difference.mean or 0) > 0
                if difference.excludes_zero and ahead == (experiment == arm):
                    return True
        return False


def build(
    runs: Runs,
    selections: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baselines: Mapping[str, str] | None = None,
) -> Report:
    """Compute everything that is reported.

    Args:
        selections: of SELECTIONS; default all that there is something to select by.
        metrics: by name or label; default those of METRICS that were measured.
        baselines: by experiment name, in place of those in config.yaml.

    Raises:
        ReportError: an option names what is not there, or nothing is finished enough.
    """
    table = runs.experiments
    runs = runs.only(
        sorted(table.index, key=lambda e: (table.dataset[e], order(table.arm[e])))
    )
    chosen = chosen_metrics(runs, metrics)
    wanted = [
        name
        for name in chosen_from(selections or USUAL, SELECTIONS, "selection")
        if name not in NEED_VALIDATION or runs.trials.validation.notna().any()
    ]
    if not wanted:
        raise ReportError(
            "no arm has a validation split, so that nothing can be selected on it; "
            "choose another selection"
        )
    records = pd.concat([_records(runs, name, chosen) for name in wanted])
    seeds = _by_seed(runs, records)
    pairs = pair_up(runs, baselines or {})
    known = runs.trials.primary_metric[runs.trials.primary_metric.isin(chosen)]
    return Report(
        runs,
        tuple(chosen),
        known.iloc[0] if len(known) else chosen[0],
        tuple(wanted),
        pairs,
        records,
        seeds,
        _summary(runs, seeds, wanted, chosen, pairs),
    )


def chosen_metrics(runs: Runs, wanted: Sequence[str]) -> list[str]:
    found = accuracies(runs)
    measured = set(found[found.epoch > 0].metric)
    if not measured:
        raise ReportError(
            "no trial has been evaluated on its test split after training began; "
            "wait for the first evaluation"
        )
    usual = [metric for metric in METRICS if metric in measured]
    known = usual + sorted(measured - set(usual))
    names = [metric_name(name) for name in wanted]
    return chosen_from(names or usual, known, "metric")


def pair_up(runs: Runs, baselines: Mapping[str, str]) -> dict[str, str]:
    """Each arm that has a baseline among the experiments, with it.

    Raises:
        ReportError: `baselines` names what is not there; or a baseline is the arm
            itself, or of another data set, or has folds where the arm has none.
    """
    table = runs.experiments
    for name in [*baselines, *baselines.values()]:
        if name not in table.index:
            raise ReportError(
                f"baseline: there is no experiment {name!r}; there are "
                f"{', '.join(table.index)}"
            )
    pairs = {}
    begun = set(runs.trials.experiment)
    for name, arm in table.iterrows():
        other = baselines.get(name, arm.baseline)
        if other not in table.index:
            continue
        if other == name or table.dataset[other] != arm.dataset:
            raise ReportError(
                f"the baseline of {name} must be another arm on the same data set, got "
                f"{other}; change it in {arm.place}/config.yaml or by option"
            )
        folds = table.num_folds[[name, other]]
        if {name, other} <= begun and folds[name] != folds[other]:
            raise ReportError(
                f"{name} has {folds[name]} folds, its baseline {other} {folds[other]} "
                "(0: no cross-validation): they cannot be compared"
            )
        pairs[name] = other
    return pairs


def _records(runs: Runs, selection: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Of complete seeds."""
    found = select(runs, selection, metrics)
    found = found.assign(fold=found.fold.astype(object).replace(NO_FOLD, ""))
    together = runs.concatenated
    together = together[
        (together.selection == selection) & together.metric.isin(metrics)
    ].assign(fold="concatenated", epoch=None)
    parts = [part for part in (found, together) if len(part)]
    both = pd.concat(parts) if parts else found
    return runs.of_complete(both.assign(selection=selection))


def _by_seed(runs: Runs, records: pd.DataFrame) -> pd.DataFrame:
    """A seed's numbers: with folds their mean, and that of all together."""
    folds = runs.experiments.num_folds
    rows = []
    by = ["selection", "experiment", "seed", "metric"]
    for (selection, name, seed, metric), of in records.groupby(by, sort=False):
        single = of[of.fold != "concatenated"]
        together = of[of.fold == "concatenated"].value
        where = {"dataset": runs.experiments.dataset[name], "selection": selection}
        row = {**where, "experiment": name, "metric": metric, "seed": seed}
        row["epochs"] = list(single.epoch)
        with_folds = folds[name] > 1
        if len(single) >= max(1, folds[name]):
            accuracy = "separated" if with_folds else "single"
            mean = statistics.fmean(single.value)
            rows.append({**row, "accuracy": accuracy, "value": mean})
        if with_folds and len(together):
            row |= {"accuracy": "concatenated", "value": together.iloc[0]}
            rows.append(row)
    return pd.DataFrame(rows, columns=[*CELL, "seed", "value", "epochs"])


def _summary(
    runs: Runs,
    seeds: pd.DataFrame,
    selections: Sequence[str],
    metrics: Sequence[str],
    pairs: Mapping[str, str],
) -> pd.DataFrame:
    """In the order of display."""
    values = {
        cell: of.set_index("seed").value for cell, of in seeds.groupby(CELL, sort=False)
    }
    none = pd.Series(dtype=float)
    table = runs.experiments
    cells = [
        (dataset, selection, name, accuracy, metric)
        for dataset in dict.fromkeys(table.dataset)
        for selection in selections
        for name in table.index[table.dataset == dataset]
        for accuracy in _kinds(table.num_folds[name], selection)
        for metric in metrics
    ]
    rows = []
    for cell in cells:
        own = values.get(cell, none)
        other = values.get((*cell[:2], pairs.get(cell[2]), *cell[3:]), none)
        rows.append((*cell, summarize(list(own)), paired_difference(own, other)))
    return pd.DataFrame(rows, columns=[*CELL, "own", "difference"]).set_index(CELL)


def _kinds(num_folds: int, selection: str) -> list[str]:
    if num_folds < 2:
        return ["single"]
    # The folds' models are concatenated as one selection each, which each metric's
    # own best epoch is not.
    best_on_test = selection == "best_on_test"
    return ["separated"] if best_on_test else ["separated", "concatenated"]
