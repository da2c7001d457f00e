"""Differences of MemVir to the plain losses, a line a loss, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.box import MARKDOWN
from rich.table import Table

from ..report import cells
from ..report.build import build
from ..report.experiments import Experiment, load
from ..report.names import metric_label, order
from ..report.structure import Report
from ..report.tables import as_text

METRICS = ("mean_average_precision_at_r", "precision_at_1", "r_precision")
PICKED = "best_on_validation"
SELECTIONS = {
    PICKED: "picked epoch",
    "last": "last epoch",
    "best_on_test": "best on test",
    "held_out": "held-out classes",
}
# As if training had ended there; the epochs of a data set's training last.
LENGTHS = {"glyphs": (5, 10, 15, 20), "emoji": (2, 4, 6, 8)}
Cells = Mapping[str, str]


def by_selection(results: Path) -> str:
    """A section a data set and metric: means, and differences by how epochs are picked.

    "" if there is no pair.
    """
    sections = []
    for dataset, folder in _compared(results):
        report = build(load([folder]), tuple(SELECTIONS), METRICS)
        for metric in METRICS:
            means = _means(report, metric)
            columns = {
                "pairs": _numbers(report, metric),
                "plain": {arm: means[baseline] for arm, baseline in _pairs(report)},
                "with MemVir": means,
                **{
                    heading: _differences(report, selection, metric)
                    for selection, heading in SELECTIONS.items()
                },
            }
            name = f"{dataset}, {metric_label(metric)}"
            sections.append(f"## {name}\n\n{_table(columns, dict(_pairs(report)))}")
    return "\n\n".join(["# MemVir minus plain", *sections]) + "\n" if sections else ""


def by_length(results: Path) -> str:
    """A section a data set: differences in the first metric, had training been shorter.

    "" if there is no pair.
    """
    sections = []
    for dataset, folder in _compared(results):
        columns = {}
        for epoch in LENGTHS[dataset]:
            experiments = load([folder], epoch)
            report = build(experiments, (PICKED,), METRICS[:1])
            columns[f"{_steps(experiments):,} steps"] = _differences(
                report, PICKED, METRICS[0]
            )
        table = _table(columns, dict(_pairs(report)))
        sections.append(f"## {dataset}\n\n{table}")
    return "\n\n".join(["# Length of training", *sections]) + "\n" if sections else ""


def _compared(results: Path) -> Iterator[tuple[str, Path]]:
    """Data sets whose comparison has begun, and their folders."""
    for dataset in LENGTHS:
        folder = results / "main" / dataset
        if any(folder.glob("*_memvir/**/history.json")):
            yield dataset, folder


def _steps(experiments: list[Experiment]) -> int:
    return max(e.step for one in experiments for t in one.trials for e in t.trained)


def _pairs(report: Report) -> list[tuple[str, str]]:
    """Arms with a baseline, and that, by label."""
    return [(r.label, r.baseline) for r in report.sections[0].results if r.baseline]


def _means(report: Report, metric: str) -> Cells:
    """At the picked epoch."""
    return {
        result.label: cells.percent(found.mean if found else None)
        for section in report.sections
        if section.selection == PICKED
        for result in section.results
        for found in [result.summaries[metric]]
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
