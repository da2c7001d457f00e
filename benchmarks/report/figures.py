"""Learning curves as PNG files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
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
MAX_LOSSES = 3  # that share a panel
LEGEND_WIDTH = 24  # characters of a label and its line, of 4 inches


@dataclass(frozen=True)
class Panel:
    """What one pair of axes shows."""

    title: str
    panels: Panels
    curves: tuple[Curve, ...]


def draw(rows: Sequence[Panels], caption: str, path: Path) -> None:
    """Write the figure."""
    with replacing(path) as temporary:
        figure(rows, caption).savefig(temporary, dpi=150, format="png")


def figure(rows: Sequence[Panels], caption: str) -> Figure:
    """A row a data set, a panel a metric, a line an arm.

    Losses that are more than MAX_LOSSES have a panel each, and metrics a row.
    Dashed lines are baselines. The line is the mean over finished seeds, the band goes
    from the worst to the best; thin lines are single seeds, if they are few.
    """
    apart = any(map(_many_losses, rows))
    by_line = _by_loss if apart else _by_metric
    lines = [line for panels in rows for line in by_line(panels, len(rows) > 1)]
    columns = max(map(len, lines))
    width = max((2.7 if apart else 4.2) * columns, 7)
    height = (2.6 if apart else 3.4) * len(lines) + 1.6
    result = Figure(figsize=(width, height), layout="constrained")
    grid = result.subplots(
        len(lines), columns, squeeze=False, sharey="row" if apart else "none"
    )
    handles: dict[str, Line2D] = {}
    for axes_of_line, line in zip(grid, lines):
        for axes, panel in zip(axes_of_line, line):
            handles |= _draw_panel(axes, panel)
        axes_of_line[0].set_ylabel("percent")
        for axes in axes_of_line[len(line) :]:
            axes.set_axis_off()
    _add_legend(result, handles, width)
    texts = (textwrap.fill(text, round(15 * width)) for text in caption.split("\n"))
    result.suptitle("\n".join(texts), fontsize="small")
    return result


def _many_losses(panels: Panels) -> bool:
    """If arms share colors at all, they share that of their loss."""
    num_arms = len(next(iter(panels.curves.values())))
    return MAX_LOSSES < len(_losses(panels)) < num_arms


def _losses(panels: Panels) -> dict[int, list[str]]:
    """The arms of each color."""
    losses: dict[int, list[str]] = {}
    for curve in next(iter(panels.curves.values())):
        losses.setdefault(curve.color, []).append(curve.label)
    return losses


def _by_metric(panels: Panels, named: bool) -> list[list[Panel]]:
    name = f"{panels.dataset}: " if named else ""
    return [
        [
            Panel(f"{name}{metric_label(metric)}", panels, curves)
            for metric, curves in panels.curves.items()
        ]
    ]


def _by_loss(panels: Panels, named: bool) -> list[list[Panel]]:
    name = f"{panels.dataset}\n" if named else ""
    return [
        [
            Panel(
                f"{name}{arms[0]}, {metric_label(metric)}",
                panels,
                tuple(curve for curve in curves if curve.label in arms),
            )
            for arms in _losses(panels).values()
        ]
        for metric, curves in panels.curves.items()
    ]


def _draw_panel(axes: Axes, panel: Panel) -> dict[str, Line2D]:
    handles = {curve.label: _draw(axes, curve) for curve in panel.curves}
    axes.set_title(panel.title, fontsize="medium")
    axes.set_xlabel(panel.panels.x_label)
    if panel.panels.logarithmic:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    return handles


def _add_legend(result: Figure, handles: dict[str, Line2D], width: float) -> None:
    longest = max(map(len, handles)) + 8
    per_row = max(1, round(width / 4 * LEGEND_WIDTH / longest))
    result.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(per_row, len(handles)),
        handlelength=3,
        fontsize="small",
    )


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
