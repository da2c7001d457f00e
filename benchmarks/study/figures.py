"""Figures of a table of differences. The table's numbers are what is drawn."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ..report.text import mathtext

DIFFERENCE = r"^(?P<mean>[+-][\d.]+) \[(?P<low>[+-][\d.]+), (?P<high>[+-][\d.]+)\]$"
MOST_BESIDE = 3  # panels, to be legible on a narrow screen
GAIN, LOSS, OPEN = "C0", "C1", "0.6"


def has_intervals(table: pd.DataFrame) -> bool:
    """Whether there is anything to draw; differences of one pair have none."""
    return any(table[head].str.fullmatch(DIFFERENCE).any() for head in table.columns)


def forest(table: pd.DataFrame) -> Figure:
    """A panel a column that has differences, a line a row: means and intervals.

    Grey is what is not clearly different from 0.
    """
    rows = [mathtext(name) for name in table.iloc[:, 0]]
    table = table.reset_index(drop=True)  # rows are places
    panels = {}
    for head in table.columns[1:]:
        numbers = table[head].str.extract(DIFFERENCE).astype(float).dropna()
        if len(numbers):
            panels[head] = numbers
    ncols = min(len(panels), MOST_BESIDE)
    nrows = -(-len(panels) // MOST_BESIDE)
    size = 1.8 + 2.1 * ncols, 0.6 + nrows * (0.4 + 0.26 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(nrows, ncols, sharex=True, sharey=True, squeeze=False).flat
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[max(len(panels) - ncols, 0) : len(panels)]:
        axes.tick_params(labelbottom=True)  # nothing may be below
    for axes, (head, numbers) in zip(grid, panels.items()):
        axes.axvline(0, color="black", lw=0.8)
        for place, mean, low, high in numbers.itertuples():
            color = GAIN if low > 0 else LOSS if high < 0 else OPEN
            ends = [[mean - low], [high - mean]]
            axes.errorbar(mean, place, xerr=ends, fmt="o", capsize=3, color=color)
        axes.set_title(mathtext(head), fontsize="medium")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(axis="x", alpha=0.3)
    grid[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(
        "points, 95% interval; grey where it includes 0", fontsize="medium"
    )
    return figure


def scatter(table: pd.DataFrame, against: str) -> Figure:
    """The first differences of a table, a point a row, against another column.

    Rows that begin alike, up to a comma, have one color.
    """
    heads = {h: table[h].str.extract(DIFFERENCE).astype(float) for h in table.columns}
    head = next(head for head, numbers in heads.items() if numbers["mean"].count())
    points = heads[head].assign(
        x=pd.to_numeric(table[against], errors="coerce"),
        group=table.iloc[:, 0].str.partition(",")[0],
    )
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="black", lw=0.8)
    for name, of in points.dropna().groupby("group", sort=False):
        ends = [of["mean"] - of["low"], of["high"] - of["mean"]]
        axes.errorbar(
            of["x"], of["mean"], ends, fmt="o", capsize=2, lw=1, label=mathtext(name)
        )
    axes.set_xlabel(mathtext(against))
    axes.set_ylabel(f"{mathtext(head)}, points, 95% interval")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure
