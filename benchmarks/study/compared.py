"""The comparison: differences of MemVir to the plain losses, a line a loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..report.build import build
from ..report.experiments import Experiment, load
from ..report.names import metric_label, order, split_name
from .columns import (
    ABOUT,
    ABOUT_SELECTIONS,
    HEADINGS,
    METRICS,
    by_selection,
    table,
)
from .lengths import ABOUT_LENGTH, by_length
from .pages import markdown
from .stages import COMPARED


def comparison_tables(results: Path) -> str:
    """A section a data set and metric: differences by how the epoch is picked."""
    sections = {}
    for dataset, folder in compared(results):
        experiments = load([folder])
        report = build(experiments, tuple(HEADINGS), METRICS)
        for metric in METRICS:
            columns = by_selection(report, metric)
            heading = f"{dataset}, {metric_label(metric)}"
            sections[heading] = table("loss", columns, _losses(experiments))
    return markdown("Comparison", sections, ABOUT, ABOUT_SELECTIONS)


def length_tables(results: Path) -> str:
    """A section a data set: the first metric's, had training been shorter."""
    sections = {}
    for dataset, folder in compared(results):
        rows = _losses(load([folder]))
        sections[f"{dataset}, length"] = table("loss", by_length([folder]), rows)
    return markdown("Length of training", sections, ABOUT, ABOUT_LENGTH)


def compared(results: Path) -> Iterator[tuple[str, Path]]:
    """Data sets whose comparison has begun, and their folders."""
    for dataset in COMPARED:
        folder = results / "main" / dataset
        if any(folder.glob("*_memvir/**/history.json")):
            yield dataset, folder


def _losses(experiments: Sequence[Experiment]) -> list[tuple[str, str]]:
    """Arms with MemVir, and the losses that they are compared with."""
    losses = [
        (one.arm, split_name(one.baseline)[1]) for one in experiments if one.baseline
    ]
    return sorted(losses, key=lambda pair: order(pair[0]))
