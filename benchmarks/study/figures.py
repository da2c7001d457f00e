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

    Grey is what is not clearly different from 0. Panels beside each other have those
    rows that one of them has something of.
    """
    table = table.reset_index(drop=True)
    panels = [
        (head, numbers)
        for head in table.columns[1:]
        if len(numbers := table[head].str.extract(DIFFERENCE).astype(float).dropna())
    ]
    ncols = min(len(panels), MOST_BESIDE)
    beside = [panels[i : i + ncols] for i in range(0, len(panels), ncols)]
    rows = [sorted({row for _, of in some for row in of.index}) for some in beside]
    heights = [0.4 + 0.26 * len(some) for some in rows]
    size = 1.8 + 2.1 * ncols, 0.6 + sum(heights)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        len(beside),
        ncols,
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=heights,
    )
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid.flat[max(len(panels) - ncols, 0) : len(panels)]:
        axes.tick_params(labelbottom=True)  # nothing may be below
    for of_grid, some, shown in zip(grid, beside, rows):
        for axes, (head, numbers) in zip(of_grid, some):
            axes.axvline(0, color="black", lw=0.8)
            for row, mean, low, high in numbers.itertuples():
                color = GAIN if low > 0 else LOSS if high < 0 else OPEN
                style = {"fmt": "o", "capsize": 3, "color": color}
                ends = [[mean - low], [high - mean]]
                axes.errorbar(mean, shown.index(row), xerr=ends, **style)
            axes.set_title(mathtext(head), fontsize="medium")
            axes.grid(axis="x", alpha=0.3)
        names = [mathtext(table.iloc[row, 0]) for row in shown]
        of_grid[0].set_yticks(range(len(names)), names)
        of_grid[0].set_ylim(len(names) - 0.5, -0.5)
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
