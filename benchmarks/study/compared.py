"""Differences of MemVir to the plain losses, a line a loss, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.box import MARKDOWN
from rich.table import Table

from ..report import cells
from ..report.build import build
from ..report.experiments import Experiment, load
from ..report.names import metric_label, order
from ..report.structure import Report, Result
from ..report.tables import as_text
from .pages import page
from .stages import COMPARED

METRICS = ("mean_average_precision_at_r", "precision_at_1", "r_precision")
PICKED = "best_on_validation"
SELECTIONS = {
    PICKED: "picked epoch",
    "last": "last epoch",
    "best_on_test": "best on test",
    "held_out": "held-out classes",
}
QUARTERS = (1, 2, 3, 4)  # of the training
Cells = Mapping[str, str]

ABOUT = (
    "MemVir minus plain, in percent: means over pairs of seeds, in brackets their 95% "
    "intervals by Student's t."
)
ABOUT_SELECTION = (
    "plain, with MemVir: on test classes, at the epoch that is best on held-out "
    "classes, as is the first difference. The last one is of the held-out classes "
    "themselves."
)
ABOUT_LENGTH = (
    "As if training had ended there: test classes, at the epoch that until then is "
    "best on held-out classes."
)


def by_selection(results: Path) -> str:
    """A section a data set and metric: differences by how the epoch is picked."""
    sections = {}
    for dataset, folder in _compared(results):
        report = build(load([folder]), tuple(SELECTIONS), METRICS)
        for metric in METRICS:
            means = _means(report, metric)
            columns = {
                "pairs": _numbers(report, metric),
                "plain": {arm: plain for arm, (plain, _) in means.items()},
                "with MemVir": {arm: memvir for arm, (_, memvir) in means.items()},
                **{
                    heading: _differences(report, selection, metric)
                    for selection, heading in SELECTIONS.items()
                },
            }
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = _table(columns, _pairs(report))
    return page("MemVir minus plain", sections, ABOUT, ABOUT_SELECTION)


def by_length(results: Path) -> str:
    """A section a data set: the first metric's, had training been shorter."""
    sections = {}
    for dataset, folder in _compared(results):
        num_epochs = max(t.num_epochs for one in load([folder]) for t in one.trials)
        columns: dict[str, Cells] = {}
        for quarter in QUARTERS:
            experiments = load([folder], quarter * num_epochs // len(QUARTERS))
            report = build(experiments, (PICKED,), METRICS[:1])
            columns[f"{_steps(experiments):,} steps"] = _differences(
                report, PICKED, METRICS[0]
            )
        columns = {"pairs": _numbers(report, METRICS[0]), **columns}
        sections[dataset] = _table(columns, _pairs(report))
    return page("Length of training", sections, ABOUT, ABOUT_LENGTH)


def _compared(results: Path) -> Iterator[tuple[str, Path]]:
    """Data sets whose comparison has begun, and their folders."""
    for dataset in COMPARED:
        folder = results / "main" / dataset
        if any(folder.glob("*_memvir/**/history.json")):
            yield dataset, folder


def _steps(experiments: list[Experiment]) -> int:
    return max(e.step for one in experiments for t in one.trials for e in t.trained)


def _pairs(report: Report) -> dict[str, str]:
    """Arms with a baseline, and that, by label."""
    return {r.label: r.baseline for r in report.sections[0].results if r.baseline}


def _means(report: Report, metric: str) -> dict[str, tuple[str, str]]:
    """By arm with MemVir: of the plain loss and of the arm, at the picked epoch.

    Over the seeds that both have, as the difference is.
    """
    (section,) = (s for s in report.sections if s.selection == PICKED)
    by_label = {result.label: result for result in section.results}
    found = {}
    for arm, baseline in _pairs(report).items():
        both = _values(by_label[baseline], metric), _values(by_label[arm], metric)
        seeds = both[0].keys() & both[1].keys()
        if seeds:
            plain, memvir = (statistics.fmean(of[s] for s in seeds) for of in both)
            found[arm] = cells.percent(plain), cells.percent(memvir)
    return found


def _values(result: Result, metric: str) -> dict[int, float]:
    return {
        seed: value.value
        for seed, of_seed in result.seeds.items()
        if (value := of_seed[metric]) is not None
    }


def _numbers(report: Report, metric: str) -> Cells:
    """Of pairs."""
    return {
        result.label: str(delta.n)
        for result in report.sections[0].results
        if (delta := result.differences[metric]) is not None
    }


def _differences(report: Report, selection: str, metric: str) -> Cells:
    return {
        result.label: cells.difference(result.differences[metric])
        for section in report.sections
        if section.selection == selection
        for result in section.results
    }


def _table(columns: Mapping[str, Cells], pairs: Mapping[str, str]) -> str:
    table = Table(box=MARKDOWN)
    table.add_column("loss")
    for heading in columns:
        table.add_column(heading, justify="right")
    for arm in sorted(pairs, key=order):
        table.add_row(pairs[arm], *(of.get(arm, cells.NONE) for of in columns.values()))
    return as_text(table)
