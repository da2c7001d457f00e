"""The comparison: differences of MemVir to the plain losses, a line a loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..report.build import build
from ..report.experiments import Experiment, load
from ..report.names import metric_label, order
from ..report.structure import Report
from .differences import (
    ABOUT,
    ABOUT_SELECTIONS,
    METRICS,
    PICKED,
    SELECTIONS,
    Cells,
    baselines,
    by_selection,
    differences,
    numbers,
    table,
)
from .pages import page
from .stages import COMPARED

QUARTERS = (1, 2, 3, 4)  # of the training

ABOUT_LENGTH = (
    "As if training had ended there: test classes, at the epoch that until then is "
    "best on held-out classes."
)


def comparison_tables(results: Path) -> str:
    """A section a data set and metric: differences by how the epoch is picked."""
    sections = {}
    for dataset, folder in _compared(results):
        report = build(load([folder]), tuple(SELECTIONS), METRICS)
        for metric in METRICS:
            columns = by_selection(report, metric)
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = table("loss", columns, _losses(report))
    return page("MemVir minus plain", sections, ABOUT, ABOUT_SELECTIONS)


def length_tables(results: Path) -> str:
    """A section a data set: the first metric's, had training been shorter."""
    sections = {}
    for dataset, folder in _compared(results):
        num_epochs = max(t.num_epochs for one in load([folder]) for t in one.trials)
        columns: dict[str, Cells] = {}
        for quarter in QUARTERS:
            experiments = load([folder], quarter * num_epochs // len(QUARTERS))
            report = build(experiments, (PICKED,), METRICS[:1])
            columns[f"{_steps(experiments):,} steps"] = differences(
                report, PICKED, METRICS[0]
            )
        columns = {"pairs": numbers(report, METRICS[0]), **columns}
        sections[dataset] = table("loss", columns, _losses(report))
    return page("Length of training", sections, ABOUT, ABOUT_LENGTH)


def _compared(results: Path) -> Iterator[tuple[str, Path]]:
    """Data sets whose comparison has begun, and their folders."""
    for dataset in COMPARED:
        folder = results / "main" / dataset
        if any(folder.glob("*_memvir/**/history.json")):
            yield dataset, folder


def _steps(experiments: list[Experiment]) -> int:
    return max(e.step for one in experiments for t in one.trials for e in t.trained)


def _losses(report: Report) -> list[tuple[str, str]]:
    """Arms with MemVir, and the losses that they are compared with."""
    return sorted(baselines(report).items(), key=lambda pair: order(pair[0]))
