"""The comparison: differences of MemVir to the plain losses, a line a loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..report.build import build
from ..report.experiments import load
from ..report.names import metric_label, order
from ..report.structure import Report
from .columns import (
    ABOUT,
    ABOUT_SELECTIONS,
    HEADINGS,
    METRICS,
    PICKED,
    Cells,
    baselines,
    by_selection,
    differences,
    numbers,
    table,
)
from .pages import markdown
from .stages import COMPARED

QUARTERS = (1, 2, 3, 4)  # of the training

ABOUT_LENGTH = (
    "MemVir minus plain, as if training had ended there: test classes, at the epoch "
    "that until then is best on held-out classes."
)


def comparison_tables(results: Path) -> str:
    """A section a data set and metric: differences by how the epoch is picked."""
    sections = {}
    for dataset, folder in _compared(results):
        report = build(load([folder]), tuple(HEADINGS), METRICS)
        for metric in METRICS:
            columns = by_selection(report, metric)
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = table("loss", columns, _losses(report))
    return markdown("Comparison", sections, ABOUT, ABOUT_SELECTIONS)


def length_tables(results: Path) -> str:
    """A section a data set: the first metric's, had training been shorter."""
    sections = {}
    for dataset, folder in _compared(results):
        trials = [trial for one in load([folder]) for trial in one.trials]
        num_epochs = max(trial.num_epochs for trial in trials)
        epoch = trials[0].trained[0]
        columns: dict[str, Cells] = {}
        for quarter in QUARTERS:
            experiments = load([folder], quarter * num_epochs // len(QUARTERS))
            report = build(experiments, (PICKED,), METRICS[:1])
            steps = quarter * num_epochs // len(QUARTERS) * epoch.step // epoch.epoch
            columns[f"{steps:,} steps"] = differences(report, PICKED, METRICS[0])
        columns = {"pairs": numbers(report, METRICS[0]), **columns}
        sections[f"{dataset}, length"] = table("loss", columns, _losses(report))
    return markdown("Length of training", sections, ABOUT, ABOUT_LENGTH)


def _compared(results: Path) -> Iterator[tuple[str, Path]]:
    """Data sets whose comparison has begun, and their folders."""
    for dataset in COMPARED:
        folder = results / "main" / dataset
        if any(folder.glob("*_memvir/**/history.json")):
            yield dataset, folder


def _losses(report: Report) -> list[tuple[str, str]]:
    """Arms with MemVir, and the losses that they are compared with."""
    return sorted(baselines(report).items(), key=lambda pair: order(pair[0]))
