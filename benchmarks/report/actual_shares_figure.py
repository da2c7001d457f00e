"""Differences to the baseline over the share of actual classes, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from .files import replacing
from .names import metric_label
from .selection import LABELS
from .structure import ActualShares


def draw(found: Sequence[ActualShares], metric: str, path: Path) -> None:
    """A panel a section, a point an arm with MemVir, a color a loss."""
    figure = Figure(figsize=(5.2 * len(found), 4.6), layout="constrained")
    grid = figure.subplots(1, len(found), squeeze=False)[0]
    losses = sorted({point.loss for one in found for point in one.points})
    for axes, one in zip(grid, found):
        axes.axhline(0, color="black", lw=0.8)
        for number, loss in enumerate(losses):
            of_loss = [point for point in one.points if point.loss == loss]
            axes.scatter(
                [point.share for point in of_loss],
                [100 * point.difference for point in of_loss],
                s=26,
                color=colormaps["tab10"](number % 10),
                marker="os^Dv"[number % 5],
                label=loss,
            )
        axes.set(
            title=f"{one.dataset or 'unnamed data set'}, {LABELS[one.selection]}",
            xlabel="probability on the actual classes, until the last evaluation",
            ylabel=f"{metric_label(metric)}: difference to the baseline, in points",
            xlim=(0, 1),
        )
        axes.grid(alpha=0.3)
    grid[-1].legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
