"""Learning curves as PNG files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .files import replacing
from .names import metric_label
from .structure import Curve, Line, Panels

MAX_SEED_LINES = 5
LEGEND_WIDTH = 24  # characters of a label and its line, of 4 inches


def draw(rows: Sequence[Panels], caption: str, path: Path) -> None:
    """A row a data set, a panel a metric, a line an arm.

    Dashed lines are baselines. The line is the mean over finished seeds, the band goes
    from the worst to the best; thin lines are single seeds, if they are few.
    """
    columns = len(rows[0].curves)
    width = max(4.2 * columns, 7)
    figure = Figure(figsize=(width, 3.4 * len(rows) + 1.6), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    handles: dict[str, Line2D] = {}
    for axes_of_row, panels in zip(grid, rows):
        for axes, (metric, curves) in zip(axes_of_row, panels.curves.items()):
            for curve in curves:
                handles.setdefault(curve.label, _draw(axes, curve))
            title = metric_label(metric)
            if len(rows) > 1:
                title = f"{panels.dataset}: {title}"
            axes.set(title=title, xlabel=panels.x_label, ylabel="percent")
            if panels.logarithmic:
                axes.set_xscale("log")
            axes.grid(alpha=0.3)
    per_row = max(1, round(width / 4 * LEGEND_WIDTH / _longest(handles)))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(per_row, len(handles)),
        handlelength=3,
        fontsize="small",
    )
    lines = (textwrap.fill(line, round(15 * width)) for line in caption.split("\n"))
    figure.suptitle("\n".join(lines), fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _longest(handles: dict[str, Line2D]) -> int:
    return max(map(len, handles)) + 8


def _draw(axes: Axes, curve: Curve) -> Line2D:
    palette = colormaps["tab10" if curve.color < 10 else "tab20b"]
    style: dict[str, Any] = {
        "color": palette(curve.color % palette.N),
        "linestyle": "--" if curve.plain else "-",
    }
    if len(curve.seeds) <= MAX_SEED_LINES:
        for line in curve.seeds:
            axes.plot(line.x, _percent(line), lw=0.6, alpha=0.35, **style)
    if curve.low is not None and curve.high is not None:
        band = _percent(curve.low), _percent(curve.high)
        axes.fill_between(curve.low.x, *band, color=style["color"], alpha=0.12, lw=0)
    mean = curve.mean or Line((), ())
    marker = "o" if len(mean.x) == 1 else None  # a line of one point cannot be seen
    return axes.plot(mean.x, _percent(mean), lw=1.8, ms=4, marker=marker, **style)[0]


def _percent(line: Line) -> list[float]:
    return [100 * y for y in line.y]
