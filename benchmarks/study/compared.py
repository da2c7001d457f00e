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
    baselines,
    by_selection,
    table,
)
from .lengths import ABOUT_LENGTH, by_length
from .pages import markdown
from .stages import COMPARED


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
        rows = _losses(build(load([folder]), metrics=METRICS[:1]))
        sections[f"{dataset}, length"] = table("loss", by_length([folder]), rows)
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
