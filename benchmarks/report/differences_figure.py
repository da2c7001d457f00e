"""Differences between arms and their baselines, with intervals, as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .files import replacing
from .names import metric_label
from .selection import LABELS
from .structure import Result, Section

OFFSET = 0.22  # between the selections of an arm, whose own distance is 1


def draw(sections: Sequence[Section], metrics: Sequence[str], path: Path) -> None:
    """Write the figure."""
    with replacing(path) as temporary:
        figure(sections, metrics).savefig(temporary, dpi=150, format="png")


def figure(sections: Sequence[Section], metrics: Sequence[str]) -> Figure:
    """A row of panels a data set, a panel a metric, a line an arm, a color a selection.

    Points are means over pairs of seeds, bars their 95% intervals (none of one pair).
    """
    datasets = list(dict.fromkeys(section.dataset for section in sections))
    of_dataset = [[s for s in sections if s.dataset == name] for name in datasets]
    heights = [max(len(_compared(s)) for s in group) for group in of_dataset]
    result = Figure(
        figsize=(
            3 + 3.2 * len(metrics),
            1.6 + 0.42 * sum(heights) + 0.7 * len(heights),
        ),
        layout="constrained",
    )
    grid = result.subplots(
        len(datasets),
        len(metrics),
        squeeze=False,
        sharey="row",
        height_ratios=[height + 1 for height in heights],
    )
    selections = list(dict.fromkeys(section.selection for section in sections))
    colors = {name: colormaps["tab10"](i) for i, name in enumerate(selections)}
    for row, group in zip(grid, of_dataset):
        for axes, metric in zip(row, metrics):
            _draw_panel(axes, group, metric, colors)
        row[0].set_ylabel(group[0].dataset or "unnamed data set")
    result.suptitle(
        "Difference to the baseline, in points: mean over pairs of seeds, 95% interval",
        fontsize="medium",
    )
    legend = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels())
    }
    result.legend(
        list(legend.values()),
        list(legend),
        loc="outside lower center",
        ncols=max(1, len(legend)),
    )
    return result


def _draw_panel(
    axes: Axes, sections: Sequence[Section], metric: str, colors: Mapping[str, Any]
) -> None:
    axes.axvline(0, color="black", lw=0.8)
    labels: list[str] = []
    for number, section in enumerate(sections):
        compared = _compared(section)
        labels = [_label(result) for result in compared]
        shift = OFFSET * (number - (len(sections) - 1) / 2)
        for place, result in enumerate(compared):
            difference = result.differences[metric]
            if difference is None:
                continue
            low, high = difference.interval or (difference.mean, difference.mean)
            ends = [[difference.mean - low], [high - difference.mean]]
            axes.errorbar(
                100 * difference.mean,
                place + shift,
                xerr=[[100 * end for end in side] for side in ends],
                fmt="o",
                ms=4,
                capsize=2,
                color=colors[section.selection],
                label=LABELS[section.selection],
            )
    axes.set_yticks(range(len(labels)), labels, fontsize="small")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_title(metric_label(metric), fontsize="medium")
    axes.grid(axis="x", alpha=0.3)


def _compared(section: Section) -> list[Result]:
    return [result for result in section.results if result.baseline]


def _label(result: Result) -> str:
    kind = "" if result.accuracy == "single" else f", {result.accuracy}"
    return f"{result.label}{kind}"
